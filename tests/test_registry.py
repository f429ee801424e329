from dataclasses import dataclass

import pytest

from securitynet import registry
from securitynet.errors import UsageError
from securitynet.registry import Access, default_set, get_method, method, methods, option


@pytest.fixture
def scratch(monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(methods()))


def register(name="mia.made_up"):
    @method(name, access=Access.SCORES, paper="none", cost="none", soundness="none")
    @dataclass(frozen=True, kw_only=True)
    class MadeUp:
        """Made up."""

        share: float = option(0.5, "A share.", low=0, high=1)
        kind: str = option("soft", "A kind.", choices=("soft", "hard"))
        sizes: tuple[int, ...] = option((1, 2), "Sizes.", low=1)
        is_on: bool = option(False, "A switch.")

        def __call__(self, target, data, context):
            return None

    return MadeUp


def test_every_family_has_a_default_set():
    for family in registry.FAMILIES:
        assert default_set(family)


@pytest.mark.usefixtures("scratch")
def test_options_follow_from_the_fields():
    register()
    entry = get_method("mia.made_up")
    assert entry.family == "mia" and entry.summary == "Made up."
    assert entry.parse("sizes", "3,4") == (3, 4)
    assert entry.parse("is_on", "yes") is True
    assert entry.configure(sizes=[5]).sizes == (5,)


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("share", "2"),
        ("share", "x"),
        ("kind", "none"),
        ("sizes", "0"),
        ("is_on", "maybe"),
        ("no", "1"),
    ],
)
def test_bad_options_are_usage_errors(name, text):
    register()
    with pytest.raises(UsageError, match=r"securitynet show mia\.made_up"):
        get_method("mia.made_up").parse(name, text)


@pytest.mark.usefixtures("scratch")
def test_names_are_taken_once_and_checked():
    register()
    with pytest.raises(ValueError, match="family must be"):
        register("other.made_up")
    with pytest.raises(ValueError, match="frozen"):
        method("mia.x", access=Access.LABELS, paper="", cost="", soundness="")(dict)
    with pytest.raises(UsageError, match=r"did you mean mia\.loss"):
        get_method("mia.los")
