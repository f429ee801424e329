"""Benchmark: what scanners find in hostile files, and what they say of benign ones."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

from ground import Ground
from pairs import Comparison, Quality
from securitynet.errors import ResourceError

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
OTHERS = ("picklescan", "picklescan --strict", "modelscan", "fickling")
NOT_THERE = "not installed: `make bench` installs it where it can"
HEADER = (
    "scanner", "hostile flagged", "of pickles", "no verdict", "let through", "benign passed",
    "false alarms", "no verdict", "ms a file",
)  # fmt: skip
IS_PICKLE = ("gadget", "opcodes", "bomb", "joblib")
"""Begins of the categories that every scanner of pickles claims."""
CANARY_PORT = 9
"""Of this machine; nobody listens there."""


@dataclass(frozen=True)
class Sample:
    """One file of a corpus."""

    path: Path
    is_hostile: bool
    is_pickle: bool = False


@dataclass
class Answers:
    """What one scanner said.

    Attributes:
        outcomes: One a file, see ``scanning.py``; ``died`` where the scanner was lost.
        seconds: One a file that it ended.
        version: Its name and version, ``""`` where it is not installed.
    """

    outcomes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    version: str = ""


@dataclass(frozen=True)
class Scanners:
    """Our scan against picklescan, and beside modelscan and fickling, on the tests' corpora.

    Attributes:
        every: Take every so many files of each corpus.
    """

    every: int = 1

    def __call__(self, ground: Ground) -> Comparison[Answers, Answers]:
        """Write the corpora, ask the slower scanners once, and prepare the pair."""
        folder = tempfile.TemporaryDirectory(prefix="scanners-")
        samples = list(corpora(Path(folder.name), self.every))
        python = {name: PEERS for name in OTHERS} | {"ours": Path(sys.executable)}
        ask = {name: partial(answers, python[name], name, samples) for name in python}
        beside = {name: ask[name]() for name in OTHERS[1:]}
        if not ask["picklescan"]().version:
            raise ResourceError(f"picklescan is {NOT_THERE}", where=PEERS)

        def judge(ours: Answers, other: Answers) -> Quality:
            if folder and (Path(folder.name) / "canary").exists():  # kept alive by this name
                raise ResourceError("a hostile file was executed", where=folder.name)
            return judged(samples, {"ours": ours, OTHERS[0]: other, **beside})

        return Comparison(
            "`securitynet scan`", "picklescan", ask["ours"], ask["picklescan"], judge,
            len(samples), item="file",
        )  # fmt: skip


def corpora(folder: Path, every: int) -> Iterator[Sample]:
    """Write every so many of the hostile and benign files of the tests.

    Raises:
        ResourceError: If the tests are not here.
    """
    hostile, benign = (load(TESTS / kind / "corpus.py") for kind in ("hostile", "benign"))
    canary = hostile.Canary(folder / "canary", CANARY_PORT)
    for i, case in enumerate(hostile.cases(canary)[::every]):
        path = folder / "hostile" / str(i) / Path(case.name).name
        path.parent.mkdir(parents=True)
        path.write_bytes(case.content)
        yield Sample(path, True, case.category.startswith(IS_PICKLE))
    for i, case in enumerate(benign.cases()[::every]):
        path = folder / "benign" / f"{i}{case.container.suffix}"
        path.parent.mkdir(exist_ok=True)
        case.write(path)
        yield Sample(path, False)


def load(file: Path) -> ModuleType:
    """Import a corpus of the tests by its file.

    Raises:
        ResourceError: If there is none.
    """
    name = f"{file.parent.name}_corpus"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ResourceError(f"no corpus of {file.parent.name} files", where=file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(python: Path, tool: str, samples: Sequence[Sample]) -> Answers:
    """Ask one scanner about all files, in a process that is started again when a file ends it."""
    found = Answers()
    while len(found.outcomes) < len(samples):
        lines = _ask(python, tool, [sample.path for sample in samples[len(found.outcomes) :]])
        if not lines:
            return Answers()
        found.version = lines[0]["version"]
        for line in lines[1:]:
            found.outcomes.append(line["outcome"].partition(":")[0])
            found.seconds.append(line["seconds"])
        if len(found.outcomes) < len(samples):
            found.outcomes.append("died")
    return found


def _ask(python: Path, tool: str, paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the lines that the scanner's process wrote; none if it is not installed."""
    options = [] if tool == "ours" else ["-I"]
    command = [str(python), *options, str(HERE / "scanning.py"), tool]
    text = "".join(json.dumps(str(path)) + "\n" for path in paths)
    try:
        ended = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except OSError:
        return []
    return [json.loads(line) for line in ended.stdout.splitlines()]


def judged(samples: Sequence[Sample], by_tool: dict[str, Answers]) -> Quality:
    """Compare what all scanners said; ours must find as much, with as few false alarms."""
    rows = [row(samples, name, said) for name, said in by_tool.items()]
    ours, other, *_ = by_tool.values()
    found, missed = (count(samples, said, "flagged", True) for said in (ours, other))
    alarms, other_alarms = (count(samples, said, "flagged", False) for said in (ours, other))
    n_hostile = sum(sample.is_hostile for sample in samples)
    words = (
        f"flagged {found} of {n_hostile} hostile files, the other {missed}; false alarms "
        f"{alarms} of {len(samples) - n_hostile}, the other {other_alarms}"
    )
    return Quality(words, found >= missed and alarms <= other_alarms, (HEADER, *rows))


def count(samples: Sequence[Sample], said: Answers, outcomes: str, is_hostile: bool) -> int:
    """Return how many files of one kind had one of these outcomes."""
    pairs = zip(samples, said.outcomes, strict=True)
    return sum(sample.is_hostile == is_hostile and out in outcomes.split() for sample, out in pairs)


def row(samples: Sequence[Sample], name: str, said: Answers) -> tuple[str, ...]:
    """Return a scanner's line of the table."""
    if not said.version:
        return (f"{name}: {NOT_THERE}", *["-"] * (len(HEADER) - 1))
    n_hostile = sum(sample.is_hostile for sample in samples)
    n_pickles = sum(sample.is_pickle for sample in samples)
    pairs = zip(samples, said.outcomes, strict=True)
    n_found = sum(sample.is_pickle and outcome == "flagged" for sample, outcome in pairs)
    hostile, benign = (partial(count, samples, said, is_hostile=kind) for kind in (True, False))
    return (
        f"{said.version}{' --strict' * name.endswith('--strict')}",
        f"{hostile(outcomes='flagged')}/{n_hostile}", f"{n_found}/{n_pickles}",
        f"{hostile(outcomes='error died')}", f"{hostile(outcomes='clean skipped')}",
        f"{benign(outcomes='clean skipped')}/{len(samples) - n_hostile}",
        f"{benign(outcomes='flagged')}", f"{benign(outcomes='error died')}",
        f"{1000 * median(said.seconds):.1f}",
    )  # fmt: skip


BENCHMARK, QUICK = Scanners(), Scanners(every=20)
