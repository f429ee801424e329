"""``securitynet add``: draft a card from a checkpoint."""

from __future__ import annotations

import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from securitynet.cli.common import (
    JsonOption,
    QuietOption,
    StoreOption,
    VerboseOption,
    note,
    print_facts,
    print_json,
    progress_bar,
    set_verbosity,
)
from securitynet.errors import UsageError


class Kind(StrEnum):
    """What can be added."""

    model = "model"


def add(
    what: Annotated[Kind, typer.Argument(help="What to add.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")],
    json: JsonOption = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Draft card.json beside a checkpoint from what can be measured. Executes nothing in it."""
    set_verbosity(quiet, verbose)
    if not file.is_file() or file.suffix == ".json":
        raise UsageError("no checkpoint there", where=file, hint="give the file of the weights")
    from securitynet.files.atomic import write_atomic

    with progress_bar("reading", quiet=quiet) as progress:
        progress(0.1, f"reading {file.name}")
        from securitynet.targets.drafts import draft_card

        draft = draft_card(file)
    path = file.parent / "card.json"
    text = json_module.dumps(draft.card, indent=1, ensure_ascii=False) + "\n"
    is_written = write_atomic(path, lambda f: f.write(text.encode()), keep_existing=True)
    if json:
        print_json({
            "path": str(path), "is_written": is_written, "card": draft.card,
            "architectures": list(draft.architectures), "n_tensors": draft.n_tensors,
            "advice": list(draft.advice),
        })  # fmt: skip
    else:
        print_facts(_facts(draft.card, draft.n_tensors))
    if not quiet:
        left = "\n".join(f"  {line}" for line in draft.advice)
        note(f"\nfill in before it is run (docs/cards.md):\n{left}")
        note(f"wrote {path}" if is_written else f"{path} is there already and was left as it is")


def _facts(card: dict[str, object], n_tensors: int) -> list[tuple[str, str]]:
    weights, spec = card["weights"], card["input"]
    assert isinstance(weights, dict) and isinstance(spec, dict)  # noqa: S101 - we made them
    place = f", state dict at {weights['state_key']}" if weights["state_key"] else ""
    params = card["params"]
    return [
        ("file", f"{weights['path']}, {weights['format']}, {weights['bytes']:,} bytes{place}"),
        ("sha256", str(weights["checksum"])),
        ("tensors", f"{n_tensors:,}"),
        ("architecture", str(card["architecture"] or "unknown")),
        ("parameters", f"{params:,}" if isinstance(params, int) else "unknown"),
        ("classes", str(card["num_classes"] or "unknown")),
        ("channels", str(spec["channels"] or "unknown")),
    ]
