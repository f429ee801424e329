"""``securitynet show``: one model card, one method or one result, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    note,
    print_facts,
    print_json,
    set_verbosity,
)
from securitynet.cli.listing import method_rows
from securitynet.errors import UsageError, unknown_id

if TYPE_CHECKING:
    from securitynet.records import Measure

Facts = Iterator[tuple[str, str]]
HEX = "0123456789abcdef"
MIN_PREFIX = 4
SEES = {
    "LABELS": "the target's predicted labels",
    "TOP_K": "the target's scores of the top classes",
    "SCORES": "the target's scores of all classes",
    "LOGITS": "the target's logits",
    "GRADIENTS": "the target's gradients with respect to the input",
    "WEIGHTS": "the target's weights",
}


def show(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="A model, a method, or the start of a result's key.")
    ],
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show one model card, one method with its options, or one result."""
    set_verbosity(quiet, verbose)
    kind, record = _find(name, store)
    if json:
        print_json(record)
        return
    facts, advice = FORMS[kind](record, name)
    print_facts(facts)
    if not quiet:
        note(f"\n{advice}\nevery field: add --json")


def _find(name: str, store: Any) -> tuple[str, dict[str, Any]]:
    from securitynet.catalogue.database import find_card, known_ids

    methods = {row["name"]: row for row in method_rows()}
    if name in methods:
        return "method", methods[name]
    record = _result(name, store)
    if record is not None:
        return "result", record
    listed = _of_hub(name)
    if listed is not None:
        return "hub", listed
    try:
        return "model", find_card(name).to_json()
    except UsageError:
        if "/" in name or name.endswith(".json"):
            raise
    known = [*methods, *known_ids()]
    raise unknown_id("model, method or result", name, known, listing="securitynet list")


def _of_hub(name: str) -> dict[str, Any] | None:
    from securitynet.catalogue.hub import find_row

    return find_row(name) if name.startswith("hub/") else None


def _result(prefix: str, store: Any) -> dict[str, Any] | None:
    from securitynet.api import store_folder
    from securitynet.runs.store import Store

    if len(prefix) < MIN_PREFIX or any(c not in HEX for c in prefix):
        return None
    found = Store(store_folder(store)).find(prefix)
    if len(found) > 1:
        raise UsageError(f"{len(found)} results start with {prefix!r}", hint="give more of the key")
    return found[0].to_json() if found else None


def _model(card: Mapping[str, Any], name: str) -> tuple[Facts, str]:
    is_open = card["weights"]["format"] != "onnx"
    threats = "membership,stealing,backdoor" if is_open else "membership,stealing"
    return _model_facts(card), f"audit it: securitynet run {threats} {name}"


def _model_facts(card: Mapping[str, Any]) -> Facts:
    spec, weights, paper = card["input"], card["weights"], card["publication"] or {}
    yield "model", card["id"]
    yield "data set", f"{card['dataset']}, {card['num_classes']} classes"
    yield from _more_of_data(card)
    size = None if card["params"] is None else f"{card['params']:,} parameters"
    cost = None if card["macs"] is None else f"{card['macs'] / 1e9:.3g} G multiply-accumulates"
    named = _architecture(card["architecture"])
    yield "architecture", _joined(named, card["family"], size, cost)
    yield "input", _input(spec)
    yield "weights", weights["url"] or weights["path"] or "unknown"
    yield "file", _joined(weights["format"], _bytes(weights), _checksum(weights))
    yield "bytes", _vouched(card)
    yield "licence", _licence(weights)
    arxiv = f"arXiv {paper['arxiv']}" if paper.get("arxiv") else None
    venue = " ".join(str(paper[key]) for key in ("venue", "year") if paper.get(key))
    yield "published", _joined(paper.get("title"), venue, arxiv) or "unknown"
    for claim in card["claims"]:
        yield "claimed", _claim(claim)
    yield "origin", card["origin"]
    yield "status", card["status"]
    for flag in card["flags"]:
        yield "flag", flag
    for alias in card["aliases"]:
        yield "also known as", alias
    for key, value in (card["training"] or {}).items():
        yield f"training {key}".replace("_", " "), _text(value)


def _vouched(card: Mapping[str, Any]) -> str:
    from securitynet.catalogue.cards import parse_card
    from securitynet.weights.verified import in_words

    return in_words(parse_card(card, where=card["id"]).weights, where=card["id"])


def _claim(claim: Mapping[str, Any]) -> str:
    size = None if claim["n"] is None else f"n = {claim['n']:,}"
    side = None if claim["img_size"] is None else f"at {claim['img_size']} pixels"
    value = f"{claim['metric'].replace('_', ' ')} {claim['value']:g}"
    return _joined(value, side, size, claim["source"])


def _more_of_data(card: Mapping[str, Any]) -> Facts:
    from securitynet.catalogue.datasets import sizes_in_words

    sizes = sizes_in_words(card["dataset"])
    if sizes:
        yield "", sizes
    if card["pretraining"]:
        yield "pre-trained on", ", ".join(card["pretraining"])
    if card["threat_model"]:
        yield "hardened against", card["threat_model"]


def _licence(weights: Mapping[str, Any]) -> str:
    """Say the licence of the weights, and how sure that is."""
    licence, source = weights["licence"], weights["licence_source"]
    if licence in (None, "unknown"):
        return "unknown: nobody states one" if source == "unstated" else "unknown"
    if source == "presumed":
        return f"{licence}, that of the code; of the weights nobody says so"
    return str(licence)


def _architecture(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} layers: {', '.join(map(_layer, value))}"
    return str(value) if isinstance(value, str) else _text(value)


def _layer(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return " ".join(f"{name}{tuple(sizes)}" for name, sizes in value.items())


def _input(spec: Mapping[str, Any]) -> str:
    scale = [
        f"{name} {', '.join(f'{number:g}' for number in spec[name])}"
        for name in ("mean", "std")
        if spec[name]
    ]
    resize = f"shorter side {spec['resize']} first" if spec["resize"] else None
    size = f"{spec['channels']} x {spec['height']} x {spec['width']}"
    return _joined(size, *(scale or ["pixels in [0, 1]"]), resize, spec["interpolation"])


def _checksum(weights: Mapping[str, Any]) -> str:
    if not weights["checksum"]:
        return "no checksum to verify it by"
    return f"{weights['checksum_algorithm'] or 'sha256'} {weights['checksum']}"


def _bytes(weights: Mapping[str, Any]) -> str | None:
    return None if weights["bytes"] is None else f"{weights['bytes']:,} bytes"


def _method(row: Mapping[str, Any], name: str) -> tuple[Facts, str]:
    option = f" -o {name}.{row['options'][0]['name']}=VALUE" if row["options"] else ""
    return _method_facts(row), f"run it: securitynet run {name} MODEL{option}"


def _method_facts(row: Mapping[str, Any]) -> Facts:
    yield "method", f"{row['name']}, version {row['version']}"
    yield "what it does", row["summary"]
    yield "sees", f"{SEES[row['access']]} ({row['access']})"
    yield "paper", row["paper"]
    yield "cost", row["cost"]
    yield "soundness", row["soundness"]
    yield "default set", "yes: run by its family's name" if row["is_default"] else "no"
    for item in row["options"]:
        default = item["default"]
        shown = ",".join(map(str, default)) or "none" if isinstance(default, list) else default
        allowed = f"one of {', '.join(map(str, item['choices']))}; " if item["choices"] else ""
        yield f"-o {item['name']}", f"{item['help'].rstrip('.')}; {allowed}default {shown}"


def _result_form(record: Mapping[str, Any], name: str) -> tuple[Facts, str]:
    return _result_facts(record), "compare it with others: securitynet report"


def _result_facts(record: Mapping[str, Any]) -> Facts:
    from securitynet.records import Evaluation
    from securitynet.reports.wording import flag_text, name_of

    kept = Evaluation.from_json(record)
    yield "result", kept.key
    yield "method", f"{kept.method}, version {kept.version}, seed {kept.seed}"
    yield "options", _text(dict(kept.config)) if kept.config else "none"
    yield "model", f"{kept.model} ({kept.origin}), sha256 {kept.weights_sha256}"
    limit = "" if kept.limit is None else f", at most {kept.limit:,} images a side"
    yield "data set", f"{kept.dataset}{limit}"
    yield "status", _joined(kept.status, kept.error)
    for measure, value in kept.measures.items():
        yield name_of(measure), _measure(measure, value)
    for measure, value in kept.nulls.items():
        yield f"control: {name_of(measure)}", _measure(measure, value)
    for flag in kept.flags:
        yield f"flag: {flag}", flag_text(flag)
    yield "queries", "unknown" if kept.queries is None else f"{kept.queries:,} images"
    yield "time", "unknown" if kept.seconds is None else f"{kept.seconds:.3g} s"
    yield "environment", _text(dict(kept.environment))
    yield "kept with it", _joined(*kept.details, *kept.blobs) or "nothing"


def _measure(name: str, measure: Measure) -> str:
    from securitynet.reports.wording import figure, p_value

    text = p_value(measure) if name == "p_value" else figure(measure)
    size = "" if measure.n is None else f"  n = {measure.n:,}"
    return "unknown" if measure.value is None else text + size


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]" if len(value) <= 10 else f"{len(value)} items"
    return str(value)


def _hub_form(row: Mapping[str, Any], name: str) -> tuple[Facts, str]:
    return _hub_facts(row), "download the weights, then draft a card: securitynet add model FILE"


def _hub_facts(row: Mapping[str, Any]) -> Facts:
    yield "model", row["id"]
    yield "data set", row["dataset"] or ", ".join(row["hub"]["datasets"]) or "unknown"
    size = None if row["params"] is None else f"{row['params']:,} parameters"
    yield "architecture", _joined(row["family"], size) or "unknown"
    yield "input", "unknown: nobody states it"
    yield "weights", row["weights"]["url"] or "in several files"
    yield "licence", row["weights"]["licence"]
    for claim in row["claims"]:
        yield "claimed", _claim(claim)


FORMS = {"hub": _hub_form, "model": _model, "method": _method, "result": _result_form}
