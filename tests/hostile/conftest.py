"""The builders of the corpus, importable by every test of this folder."""

import importlib.util
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location(
    "hostile_corpus", Path(__file__).with_name("corpus.py")
)
if "hostile_corpus" not in sys.modules:
    corpus = importlib.util.module_from_spec(SPEC)
    sys.modules["hostile_corpus"] = corpus
    SPEC.loader.exec_module(corpus)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write
