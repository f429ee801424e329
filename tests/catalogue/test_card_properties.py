"""Whatever a card file holds, it is a card or one line that says what is wrong with it."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securitynet.catalogue.cards import MAX_SIDE, ModelCard, load_card, parse_card
from securitynet.catalogue.database import all_cards, find_card
from securitynet.errors import UsageError
from securitynet.records import canonical_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "\ud800", "a\0b", "net.py:f", "../x.py:f", "timm/resnet18", "sha256"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
GOOD = all_cards()[0].to_json()
FIELDS = [
    "id", "provider", "name", "dataset", "num_classes", "architecture", "input", "weights",
    "family", "params", "origin", "publication", "claims", "status", "training",
]  # fmt: skip
NESTED = {
    "input": ["channels", "height", "width", "mean", "std", "resize", "interpolation"],
    "weights": ["url", "path", "checksum", "checksum_algorithm", "bytes", "state_key"],
    "publication": ["title", "year", "countries"],
}


@st.composite
def nearly_good(draw):
    """Take a real card and change some fields, or fields of its parts."""
    card = json.loads(json.dumps(GOOD))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*FIELDS, "folder", "nmae"]))
        if name in NESTED and draw(st.booleans()):
            part = draw(st.sampled_from(NESTED[name]))
            known = card.get(name)
            card[name] = {**(known if isinstance(known, dict) else {}), part: draw(values)}
        elif draw(st.booleans()):
            card[name] = draw(values)
        else:
            card.pop(name, None)
    return card


def outcome(record):
    """Parse; return the card or ``None`` for a proper refusal."""
    try:
        card = parse_card(record, where="card.json")
    except UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return None
    assert isinstance(card, ModelCard)
    text = canonical_json(card.to_json())
    assert parse_card(json.loads(text), where="again") == card
    assert len(card.model_fingerprint("0" * 64)) == 64
    return card


SLOW_START = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=500, **SLOW_START)
@given(nearly_good())
def test_a_changed_card_is_a_card_or_a_usage_error(record):
    outcome(record)


@settings(max_examples=500, **SLOW_START)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), values, max_size=8))
def test_any_object_is_a_card_or_a_usage_error(record):
    outcome(record)


@settings(max_examples=200, **SLOW_START)
@given(values)
def test_any_json_is_a_card_or_a_usage_error(value):
    outcome(value)


@pytest.mark.long
@settings(max_examples=10_000, **SLOW_START)
@given(nearly_good())
def test_many_changed_cards(record):
    outcome(record)


def test_the_generator_makes_cards_and_refusals():
    assert outcome(GOOD) is not None and outcome({**GOOD, "origin": "mars"}) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"input": {"channels": 3, "height": 32, "width": 32, "mean": [float("nan")] * 3}},
            "finite",
        ),
        ({"input": {"channels": 3, "height": 32, "width": 32, "std": [10**400] * 3}}, "finite"),
        ({"input": {"channels": 3, "height": 10**9, "width": 32}}, f"1 to {MAX_SIDE}"),
        ({"input": {"channels": 3, "height": 32, "width": 32, "resize": 15}}, "input.resize"),
        ({"input": {"channels": 3, "height": 32, "width": 32, "resize": 0}}, "input.resize"),
        ({"architecture": {"name": "timm/x", "options": {"a": float("inf")}}}, "JSON cannot"),
        ({"training": {"lr": float("nan")}}, "JSON cannot"),
        ({"name": "\ud800"}, "plain words"),
        ({"family": "\ud800"}, "JSON cannot"),
        ({"claims": [{"metric": "loss", "value": float("nan"), "source": "x"}]}, "finite"),
        ({"dataset": ["x" * 10**6]}, "wrong type"),
    ],
)
def test_what_would_break_later_is_refused_at_once(change, words):
    with pytest.raises(UsageError, match=words) as caught:
        parse_card({**GOOD, **change}, where="card.json")
    assert len(str(caught.value)) < 500


def test_a_deep_file_is_not_a_card(tmp_path):
    path = tmp_path / "card.json"
    path.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="not a card"):
        load_card(path)


@pytest.mark.parametrize("reference", ["", "x" * 5000, "a\0b", "\ud800", "/", "..", "-", "~"])
def test_any_reference_is_a_card_or_a_usage_error(reference):
    with pytest.raises(UsageError) as caught:
        find_card(reference)
    assert "\n" not in str(caught.value)


def test_the_identity_is_of_weights_architecture_and_input_alone():
    card = all_cards()[0]
    same = replace(card, id="other/name", dataset="mnist", claims=(), origin="other", params=1)
    assert same.model_fingerprint("0" * 64) == card.model_fingerprint("0" * 64)
    others = [
        card.model_fingerprint("1" * 64),
        replace(card, architecture="timm/resnet18").model_fingerprint("0" * 64),
        replace(card, input=replace(card.input, resize=40)).model_fingerprint("0" * 64),
        replace(card, input=replace(card.input, mean=None)).model_fingerprint("0" * 64),
    ]
    assert len({card.model_fingerprint("0" * 64), *others}) == 5
