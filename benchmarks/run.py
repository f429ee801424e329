"""``make bench``: measures SecurityNet against the plain way of doing the same, side by side.

``benchmarks/run.py [NAME...] [--pairs N] [--quick] [--out FILE] [-o NAME.SETTING=VALUE]`` prints
the page of results. A whole run, all benchmarks at full size, also writes ``RESULTS.md``; any
other run writes a file only where ``--out`` says so.

A benchmark is one file ``bench_NAME.py`` here. It offers ``BENCHMARK`` and ``QUICK``: two
instances, full-size and tiny, of a frozen dataclass whose fields are its settings, whose
docstring says what is compared, and whose ``__call__(ground)`` returns a ``pairs.Comparison``. It
raises a ``SecurityNetError`` where the machine lacks something it needs. Nothing else lists it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securitynet.cli.common import bind_threads
from securitynet.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, SecurityNetError

if TYPE_CHECKING:
    from ground import Ground
    from page import Outcome

HERE = Path(__file__).resolve().parent
PREFIX = "bench_"
MIN_PAIRS, N_PAIRS_QUICK = 5, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; returns the exit code: 1 where a benchmark has no good figure."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads as the command line has them
    bind_threads()
    parser = _parser()
    asked = parser.parse_args(arguments)
    least, usual = (1, N_PAIRS_QUICK) if asked.quick else (MIN_PAIRS, MIN_PAIRS)
    n_pairs = usual if asked.pairs is None else asked.pairs
    if n_pairs < least:
        parser.error(f"--pairs must be at least {least}: medians of fewer pairs are luck")
    try:
        chosen = choose(asked.names, asked.setting, is_quick=asked.quick)
    except ValueError as error:
        parser.error(str(error))
    is_whole = not (asked.names or asked.setting or asked.quick)
    out = asked.out or (HERE / "RESULTS.md" if is_whole else None)
    try:
        return _measure(chosen, n_pairs, out, is_quick=asked.quick)
    except SecurityNetError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted: nothing was written")
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Side-by-side measurements of SecurityNet.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known())}")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"at least {MIN_PAIRS}, the default")
    parser.add_argument("--quick", action="store_true", help="a smoke run with tiny sizes")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the page goes")
    parser.add_argument(
        "-o", dest="setting", action="append", default=[], metavar="NAME.SETTING=VALUE",
        help="change a setting, e.g. neural_cleanse.n_steps=120",
    )  # fmt: skip
    return parser


def known() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem.removeprefix(PREFIX) for path in HERE.glob(f"{PREFIX}*.py"))


def choose(names: Sequence[str], settings: Sequence[str], *, is_quick: bool) -> dict[str, Any]:
    """Return the configured benchmarks by name.

    Raises:
        ValueError: If a name or a setting is unknown, or a value does not fit.
    """
    unknown = set(names) - set(known())
    if unknown:
        raise ValueError(f"no benchmark {min(unknown)!r}: there are {', '.join(known())}")
    chosen: dict[str, Any] = {}
    for name in names or known():
        module = importlib.import_module(PREFIX + name)
        chosen[name] = module.QUICK if is_quick else module.BENCHMARK
    for text in settings:
        _set(chosen, text)
    return chosen


def _set(chosen: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    name, _, key = path.partition(".")
    before = getattr(chosen.get(name), key, None) if equals else None
    if not isinstance(before, int | float):
        raise ValueError(f"{text!r} is no NAME.SETTING=VALUE of a benchmark of this run")
    chosen[name] = dataclasses.replace(chosen[name], **{key: type(before)(value)})


def _measure(chosen: Mapping[str, Any], n_pairs: int, out: Path | None, *, is_quick: bool) -> int:
    from ground import Ground
    from page import render
    from securitynet.files.atomic import write_text

    load, begin = os.getloadavg()[0], time.monotonic()
    ground = Ground(is_quick)
    outcomes = [run_one(name, config, ground, n_pairs) for name, config in chosen.items()]
    page = render(outcomes, ground.words(), n_pairs, is_quick=is_quick, load=load)
    sys.stdout.write(page)
    if out is not None:
        write_text(out, page)  # whole or not at all, and only now
    where = "written nowhere: give --out" if out is None else f"written to {out}"
    say(f"done in {time.monotonic() - begin:.0f} s; {where}")
    return EXIT_OK if all(outcome.is_fine for outcome in outcomes) else EXIT_FAILED


def run_one(name: str, config: Any, ground: Ground, n_pairs: int) -> Outcome:
    """Prepare and measure one benchmark; an error is its outcome, not the end of the run."""
    from page import Outcome
    from pairs import measure

    say(f"{name}: preparing")
    facts = (name, (config.__doc__ or "").split("\n", 1)[0], dataclasses.asdict(config))
    try:
        result = measure(config(ground), n_pairs, listener=lambda line: say(f"{name}: {line}"))
    except SecurityNetError as error:
        say(f"{name}: not measured: {error}")
        return Outcome(*facts, reason=error.what)  # its place may be a path of this machine
    except Exception as error:  # a boundary: what the others have measured is not lost
        traceback.print_exc()
        return Outcome(*facts, reason=f"{type(error).__name__}: {error}")
    return Outcome(*facts, result=result)


def say(line: str) -> None:
    """Print progress on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
