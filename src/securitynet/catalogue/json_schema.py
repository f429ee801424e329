"""JSON Schemas of cards and of evaluation records, made from their dataclasses. No torch."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from securitynet.catalogue.cards import MAX_SIDE, SHARES
from securitynet.catalogue.describe import alternatives, attributes
from securitynet.catalogue.schema import (
    CHECKSUM_OF,
    LICENCE_SOURCES,
    ORIGINS,
    STATUSES,
    VENUE_TYPES,
    ModelCard,
)
from securitynet.files.digest import ALGORITHMS
from securitynet.records import Evaluation

VERSION = 1
"""Rises when a document that was valid before no longer is."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
SIDE = {"minimum": 1, "maximum": MAX_SIDE}
RULES: dict[str, dict[str, Any]] = {
    "InputSpec.channels": {"enum": [1, 3]},
    "InputSpec.height": SIDE,
    "InputSpec.width": SIDE,
    "InputSpec.depth": SIDE,
    "InputSpec.resize": SIDE,
    "InputSpec.interpolation": {"enum": ["bilinear", "bicubic", "nearest"]},
    "Weights.checksum_algorithm": {"enum": [*ALGORITHMS, None]},
    "Weights.checksum_of": {"enum": [*CHECKSUM_OF]},
    "Weights.licence_source": {"enum": [*LICENCE_SOURCES, None]},
    "Weights.bytes": {"minimum": 1},
    "Publication.venue_type": {"enum": [*VENUE_TYPES, None]},
    "Publication.year": {"minimum": 1901, "maximum": 2099},
    "Claim.n": {"minimum": 1},
    "ModelCard.num_classes": {"minimum": 2},
    "ModelCard.params": {"minimum": 1},
    "ModelCard.macs": {"minimum": 1},
    "ModelCard.origin": {"enum": [*ORIGINS]},
    "ModelCard.status": {"enum": [*STATUSES]},
    "Evaluation.key": {"pattern": "^[0-9a-f]{64}$"},
}
"""What a type does not say: choices and bounds; unknown is null, never 0."""
LAWS: dict[str, dict[str, Any]] = {
    "Claim": {
        "if": {"properties": {"metric": {"pattern": "|".join(SHARES)}}},
        "then": {"properties": {"value": {"minimum": 0, "maximum": 1}}},
    },
}
"""What holds between the fields of one object."""
FILLED_IN = ("id", "provider", "name", "folder")
"""Fields of a card that are filled in where a card file lacks them, or that are none."""


def card_schema() -> dict[str, Any]:
    """Return the schema of a card file."""
    return _document(ModelCard, "card", "A model card of SecurityNet", without=FILLED_IN)


def evaluation_schema() -> dict[str, Any]:
    """Return the schema of an evaluation record."""
    return _document(Evaluation, "evaluation", "An evaluation record of SecurityNet", without=())


def _document(
    kind: type[Any], name: str, title: str, *, without: tuple[str, ...]
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    body = _object(kind, parts)
    body["properties"].pop("folder", None)
    body["required"] = [name for name in body["required"] if name not in without]
    head = {"$schema": DIALECT, "$id": f"urn:securitynet:schema:{name}:{VERSION}", "title": title}
    return {**head, **body, "$defs": dict(sorted(parts.items()))}


def _object(kind: type[Any], parts: dict[str, Any]) -> dict[str, Any]:
    hints, words = typing.get_type_hints(kind), attributes(kind)
    properties = {}
    for item in fields(kind):
        said = {"description": words[item.name]} if item.name in words else {}
        rules = RULES.get(f"{kind.__name__}.{item.name}", {})
        properties[item.name] = {**said, **_typed(hints[item.name], parts), **rules, **_given(item)}
    return {
        "type": "object",
        "properties": properties,
        "required": [item.name for item in fields(kind) if _is_required(item)],
        "additionalProperties": False,
        **LAWS.get(kind.__name__, {}),
    }


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _given(item: Field[Any]) -> dict[str, Any]:
    """Return the default, where it says more than that the value is unknown."""
    if item.default in (MISSING, None):
        return {}
    return {"default": list(item.default) if isinstance(item.default, tuple) else item.default}


def _typed(hint: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; dataclasses go into ``parts``."""
    options = [_single(option, parts) for option in alternatives(hint)]
    if len(options) == 1:
        return options[0]
    plain = [option["type"] for option in options if set(option) == {"type"}]
    if len(plain) == len(options):
        return {"type": plain}
    one = [option for option in options if option != {"type": "null"}]
    if len(one) == 1 and len(options) == 2 and "type" in one[0]:
        return {**one[0], "type": [one[0]["type"], "null"]}
    return {"anyOf": options}


def _single(kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is types.NoneType:
        return {"type": "null"}
    if is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in parts:
            parts[kind.__name__] = _object(kind, parts)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        inner = _single(arguments[0], parts)
        return {"type": "array", "items": inner} if inner else {"type": "array"}
    if origin is Mapping:
        inner = _single(arguments[1], parts)
        return {"type": "object", **({"additionalProperties": inner} if inner else {})}
    return {"type": NAMES[kind]} if kind in NAMES else {}
