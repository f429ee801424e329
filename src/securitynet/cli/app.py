"""The command line: ``securitynet VERB``. Verbs import what they need when they run."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from securitynet.cli import (
    add,
    data_verbs,
    demo,
    doctor,
    listing,
    report,
    run,
    show,
    status,
    train,
)
from securitynet.errors import (
    EXIT_ENVIRONMENT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    SecurityNetError,
)

VERBS: dict[str, Callable[..., None]] = {
    "list": listing.list_rows,
    "show": show.show,
    "add": add.add,
    "get": data_verbs.get,
    "scan": data_verbs.scan,
    "run": run.run,
    "status": status.status,
    "train": train.train,
    "report": report.report,
    "doctor": doctor.doctor,
    "demo": demo.demo,
}
_PARENTS = typer.BadParameter.__mro__
BAD_INPUT: Any = _PARENTS[_PARENTS.index(Exception) - 1]
"""The root of typer's complaints, whether typer brings its own click or uses the installed one."""

app = typer.Typer(
    name="securitynet",
    help="How vulnerable are the models that people really download? Audit image classifiers for "
    "membership leakage, model stealing and backdoors.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing what draws boxes takes as long as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb, _function in VERBS.items():
    app.command(_verb)(_function)


def _print_version(value: bool) -> None:
    if value:
        from securitynet import __version__

        typer.echo(f"securitynet {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Take the options that stand before a verb."""


def main() -> None:
    """Run the command line and exit with its code."""
    # Threads that spin while they wait slow each other down on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become one line on stderr.

    Args:
        arguments: What follows ``securitynet``; nothing asks for help.
    """
    try:
        return _invoke(arguments)
    except SecurityNetError as error:
        return _say(str(error), error.exit_code, arguments)
    except BAD_INPUT as error:
        line = f"{error.format_message().rstrip('.')}; see `{_help_of(arguments)}`"
        return _say(line, EXIT_USAGE, arguments)
    except (KeyboardInterrupt, typer.Abort):
        command = shlex.join(["securitynet", *arguments])
        line = f"interrupted; what is finished is kept, continue with: {command}"
        return _say(line, EXIT_INTERRUPTED, arguments)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        line = f"{error.strerror or error}; check the path, its permissions and the free disk space"
        place = f"{error.filename}: " if error.filename else ""
        return _say(place + line, EXIT_ENVIRONMENT, arguments)
    except Exception as error:  # the command line's boundary: one line, no traceback
        line = f"unexpected {type(error).__name__}: {error}; -vv shows where, please report it"
        return _say(line, EXIT_FAILED, arguments)


def _invoke(arguments: Sequence[str]) -> int:
    """Parse and run; typer's own ``main`` would swallow interrupts and broken pipes."""
    command: Any = typer.main.get_command(app)
    try:
        words = list(arguments) or ["--help"]
        with command.make_context("securitynet", list(words), obj=words) as context:
            command.invoke(context)
        return EXIT_OK
    except typer.Exit as leave:
        return leave.exit_code
    finally:
        sys.stdout.flush()


def _say(line: str, code: int, arguments: Sequence[str]) -> int:
    from securitynet.reports.wording import plain

    if _verbosity(arguments) > 1:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"securitynet: {plain(' '.join(line.split()))}\n")
    return code


def _verbosity(arguments: Sequence[str]) -> int:
    flags = (word for word in arguments if re.fullmatch("-[qv]+|--verbose", word))
    return sum(1 if flag == "--verbose" else flag.count("v") for flag in flags)


def _help_of(arguments: Sequence[str]) -> str:
    verb = [arguments[0]] if arguments and arguments[0] in VERBS else []
    return " ".join(["securitynet", *verb, "--help"])
