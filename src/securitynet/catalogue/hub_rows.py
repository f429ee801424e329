"""One model of the hub's listing -> one row of the table, or none. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from securitynet.catalogue.cards import SHARES
from securitynet.catalogue.tables import expand

Row = dict[str, Any]
TASK = "image-classification"
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}")
SPDX = {
    name.lower(): name
    for name in (
        "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0",
        "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0", "CC-BY-3.0", "Unlicense", "ISC",
    )
}  # fmt: skip
"""The hub writes ids in lower case; names that are no SPDX ids stay as they are."""
TEST_SPLITS = ("test", "validation", "val", "eval")
ACCURACIES = ("accuracy", "acc", "top1", "top_1_accuracy", "top_1", "acc_1", "top_1_acc")
MAX_CLAIMS = 20
SHARDED = "*"


def read_model(item: Any, endpoint: str) -> Row | None:
    """Return the row of one model that the hub lists.

    Args:
        item: The JSON object of the listing.
        endpoint: The hub's address.

    Returns:
        ``None`` if the model is gated, of another task, has no safetensors, states no licence or
        is not described as the hub describes models.
    """
    from huggingface_hub import hf_api

    untyped: Any = hf_api
    try:
        info = untyped.ModelInfo(**item)
        licence = licence_of(info)
        file = _safetensors(info)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    is_known = REPO.fullmatch(str(info.id)) and REVISION.fullmatch(str(info.sha))
    is_open = info.gated in (False, None) and not info.private and not info.disabled
    if not (is_known and is_open and licence and file) or info.pipeline_tag != TASK:
        return None
    return _row(info, licence, None if file == SHARDED else file, endpoint)


def _row(info: Any, licence: str, file: str | None, endpoint: str) -> Row:
    datasets = _datasets(info)
    config = info.config if isinstance(info.config, dict) else {}
    total = info.safetensors.total if info.safetensors else None
    row = expand({
        "id": f"hub/{info.id}@{info.sha}",
        "provider": "hub",
        "name": info.id,
        "dataset": datasets[0] if len(datasets) == 1 else None,
        "num_classes": None,
        "family": _text(config.get("model_type")) or _text(config.get("architecture")),
        "params": total if isinstance(total, int) and total > 0 else None,
        "weights": {
            "url": f"{endpoint}/{info.id}/resolve/{info.sha}/{file}" if file else None,
            "format": "safetensors", "licence": licence, "licence_source": "hub",
            "revision": info.sha,
        },
        "claims": list(_claims(info)),
        "flags": ["input-unknown"] if file else ["input-unknown", "sharded"],
    })  # fmt: skip
    row["source"] = ["hub"] if row["claims"] else []
    row["hub"] = {
        "downloads": info.downloads, "library": info.library_name, "datasets": datasets,
        "last_modified": info.last_modified.isoformat() if info.last_modified else None,
    }  # fmt: skip
    return row


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _safetensors(info: Any) -> str | None:
    """Return the weights' file, ``*`` if they lie in several or unnamed ones, ``None`` if in none.

    Files in folders are of other variants or of a trainer.
    """
    names = [sibling.rfilename for sibling in info.siblings or ()]
    found = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    if "model.safetensors" in found:
        return "model.safetensors"
    if len(found) == 1:
        return str(found[0])
    return SHARDED if found or (info.safetensors and not names) else None


def licence_of(info: Any) -> str | None:
    """Return the one licence that a repository states."""
    tags: Iterable[str] | None = info.tags
    card: Any = info.card_data
    stated = getattr(card, "license", None)
    named = [stated] if isinstance(stated, str) else list(stated or ())
    named = named or [tag[8:] for tag in tags or () if tag.startswith("license:")]
    known = [name for name in named if isinstance(name, str) and name not in ("", "unknown")]
    if len(known) != 1:
        return None
    own = _text(getattr(card, "license_name", None)) if known[0] == "other" else None
    return own or SPDX.get(known[0].lower(), known[0])


def _datasets(info: Any) -> list[str]:
    stated = getattr(info.card_data, "datasets", None)
    named = [stated] if isinstance(stated, str) else list(stated or ())
    named += [tag[8:] for tag in info.tags or () if tag.startswith("dataset:")]
    return list(dict.fromkeys(name for name in named if isinstance(name, str) and name))


def _claims(info: Any) -> Iterator[Row]:
    """Yield reported results: of the card's model index, then of the repository's result files."""
    reported = [
        (r.metric_type, r.metric_value, r.dataset_split, r.source_url)
        for r in getattr(info.card_data, "eval_results", None) or ()
        if r.task_type == TASK
    ]
    reported += [("accuracy", r.value, None, r.source_url) for r in info.eval_results or ()
                 if "accuracy" in str(r.task_id).lower()]  # fmt: skip
    for metric, value, split, source in reported[:MAX_CLAIMS]:
        name = _metric(str(metric), split)
        number = _share(value) if any(word in name for word in SHARES) else _number(value)
        if number is not None:
            yield {
                "metric": name, "value": number, "revision": info.sha,
                "source": _text(source) or f"hub:{info.id}",
            }  # fmt: skip


def _metric(name: str, split: Any) -> str:
    """Call an accuracy ``test_accuracy`` only where the split is stated to be one for testing."""
    plain = re.sub(r"\W+", "_", name.strip().lower()).strip("_") or "unnamed"
    if plain not in ACCURACIES:
        return plain
    return "test_accuracy" if str(split).lower() in TEST_SPLITS else "accuracy"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _share(value: Any) -> float | None:
    """Return a share in [0, 1]; above 1 it is a percentage, and a 0 says nothing."""
    number = _number(value)
    if number is None or not 0 < number <= 100:
        return None
    return number if number <= 1 else number / 100
