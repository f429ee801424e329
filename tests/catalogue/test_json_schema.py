"""The JSON Schemas: what we ship is valid, what a card may not be is not, and both agree."""

import json
import re

import pytest

from securitynet.catalogue.cards import parse_card
from securitynet.catalogue.json_schema import DIALECT, RULES, card_schema, evaluation_schema
from securitynet.catalogue.schema import Claim, InputSpec, ModelCard, Publication, Weights
from securitynet.catalogue.tables import rows
from securitynet.errors import UsageError
from securitynet.records import Evaluation, Measure

TYPES = {"string": str, "object": dict, "array": list, "null": type(None), "boolean": bool}
KNOWN = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "default", "type", "properties",
    "required", "additionalProperties", "items", "enum", "anyOf", "minimum", "maximum", "pattern",
    "if", "then",
}  # fmt: skip


def is_type(value, name):
    if name in ("integer", "number"):
        kinds = int if name == "integer" else int | float
        return isinstance(value, kinds) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems(schema, value, root, where="$"):
    """Yield what is wrong with a value, for the keywords that our schemas use."""
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema:
        yield from problems(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root, where)
    named = schema.get("type", [])
    if named and not any(is_type(value, n) for n in ([named] if isinstance(named, str) else named)):
        yield f"{where}: not a {named}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not allowed"
    if "anyOf" in schema and all(list(problems(s, value, root)) for s in schema["anyOf"]):
        yield f"{where}: fits no alternative"
    if is_type(value, "number"):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{where}: {value} is out of range"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where}: {value!r} does not fit"
    if "if" in schema and not list(problems(schema["if"], value, root)):
        yield from problems(schema["then"], value, root, where)
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from problems(schema.get("items", {}), item, root, f"{where}[{i}]")
    if isinstance(value, dict):
        yield from inside(schema, value, root, where)


def inside(schema, value, root, where):
    parts, more = schema.get("properties", {}), schema.get("additionalProperties", {})
    yield from (
        f"{where}: lacks {name}" for name in schema.get("required", ()) if name not in value
    )
    for name, item in value.items():
        part = parts.get(name, more)
        if part is False:
            yield f"{where}: {name} is unknown"
        else:
            yield from problems(part, item, root, f"{where}.{name}")


def wrong(schema, value):
    return list(problems(schema, value, schema))


@pytest.mark.parametrize("schema", [card_schema(), evaluation_schema()], ids=["card", "record"])
def test_a_schema_is_versioned_and_whole(schema):
    assert schema["$schema"] == DIALECT
    assert re.fullmatch(r"urn:securitynet:schema:(card|evaluation):\d+", schema["$id"])
    text = json.dumps(schema)
    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) == set(schema["$defs"])
    for part in (schema, *schema["$defs"].values()):
        assert part["type"] == "object" and part["additionalProperties"] is False
        assert set(part["required"]) <= set(part["properties"])
        assert all(item.get("description") for item in part["properties"].values())


def test_every_rule_is_of_a_field():
    kinds = {k.__name__: k for k in (ModelCard, InputSpec, Weights, Publication, Claim, Evaluation)}
    for rule in RULES:
        kind, _, name = rule.partition(".")
        assert name in kinds[kind].__dataclass_fields__, rule


def test_every_shipped_card_is_valid():
    schema = card_schema()
    found = {row["id"]: wrong(schema, {k: v for k, v in row.items() if k != "source"})
             for row in rows()}  # fmt: skip
    assert len(found) >= 12 and not {name: text for name, text in found.items() if text}


def test_the_reference_validator_agrees():
    import jsonschema

    for schema in (card_schema(), evaluation_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(card_schema())
    for row in rows():
        validator.validate({k: v for k, v in row.items() if k != "source"})


def test_a_record_is_valid():
    record = Evaluation(
        key="a" * 64, method="mia.loss", version=1, config={}, model="m", weights_sha256="f" * 64,
        origin="benchmark", dataset="d", seed=0, status="ok", measures={"auc": Measure(0.5)},
    ).to_json()  # fmt: skip
    record = json.loads(json.dumps(record))
    assert wrong(evaluation_schema(), record) == []
    assert wrong(evaluation_schema(), record | {"status": "maybe"})
    assert wrong(evaluation_schema(), record | {"measures": {"auc": 0.5}})
    assert wrong(evaluation_schema(), {k: v for k, v in record.items() if k != "key"})


CARD = {
    "name": "n", "dataset": "d", "num_classes": 3, "architecture": ["flatten"],
    "input": {"channels": 1, "height": 8, "width": 8}, "weights": {"path": "w.pth"},
}  # fmt: skip


def test_the_least_card_is_valid():
    assert wrong(card_schema(), CARD) == []
    parse_card(CARD, where="test")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 1},
        {"num_classes": "ten"},
        {"params": 0},
        {"params": True},
        {"macs": -1},
        {"origin": "nowhere"},
        {"status": None},
        {"typo": 1},
        {"dataset": None},
        {"architecture": 3},
        {"input": {"channels": 2, "height": 8, "width": 8}},
        {"input": {"channels": 1, "height": 0, "width": 8}},
        {"input": {"channels": 1, "height": 8}},
        {"input": {"channels": 1, "height": 8, "width": 8, "interpolation": "magic"}},
        {"weights": {"path": "w", "bytes": 0}},
        {"weights": {"path": "w", "licence_source": "guess"}},
        {"weights": {"path": 3}},
        {"publication": {"year": 1066}},
        {"publication": {"venue_type": "blog"}},
        {"publication": {"authors": "one"}},
        {"claims": [{"metric": "test_accuracy", "value": 91, "source": "s"}]},
        {"claims": [{"metric": "mia_auc", "value": -0.1, "source": "s"}]},
        {"claims": [{"metric": "loss", "value": 1, "source": "s", "n": 0}]},
        {"claims": [{"metric": "loss", "source": "s"}]},
        {"flags": [1]},
        {"pretraining": "imagenet"},
    ],
    ids=str,
)
def test_what_no_card_may_be_is_refused_by_both(changes):
    assert wrong(card_schema(), CARD | changes)
    with pytest.raises(UsageError):
        parse_card(CARD | changes, where="test")


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": [{"metric": "loss", "value": 7, "source": "s", "n": 1}]},
        {"pretraining": None},
        {"pretraining": ["a"], "flags": ["f"], "publication": None},
        {"architecture": {"name": "timm/x", "options": {}}},
        {"weights": {"path": "w", "checksum_algorithm": None}},
    ],
    ids=str,
)
def test_what_a_card_may_be_is_taken_by_both(changes):
    assert wrong(card_schema(), CARD | changes) == []
    parse_card(CARD | changes, where="test")
