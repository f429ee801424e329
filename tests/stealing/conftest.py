"""Victims of theft, importable by every test of this folder, and trainings that train nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest

from securitynet.stealing import _surrogates

SPEC = importlib.util.spec_from_file_location(
    "stealing_victims", Path(__file__).with_name("victims.py")
)
if "stealing_victims" not in sys.modules:
    victims = importlib.util.module_from_spec(SPEC)
    sys.modules["stealing_victims"] = victims
    SPEC.loader.exec_module(victims)


@pytest.fixture
def trainings(monkeypatch):
    """The targets of every training, as a list that grows; nothing is trained, to save time."""
    seen = []

    def fit(module, pixels, targets, **_):
        seen.append(targets)
        return module.eval()

    monkeypatch.setattr(_surrogates, "fit", fit)
    return seen
