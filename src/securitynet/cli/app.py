"""The command line: ``securitynet VERB``. Verbs import what they need when they run."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Sequence

import click
import typer

from securitynet.cli import data_verbs, demo, doctor, listing, report, run, show, train
from securitynet.errors import (
    EXIT_ENVIRONMENT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    SecurityNetError,
)

app = typer.Typer(
    name="securitynet",
    help="How vulnerable are the models that people really download? Audit image classifiers for "
    "membership leakage, model stealing and backdoors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("list")(listing.list_rows)
app.command("show")(show.show)
app.command("get")(data_verbs.get)
app.command("scan")(data_verbs.scan)
app.command("run")(run.run)
app.command("status")(run.status)
app.command("train")(train.train)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


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
        arguments: What follows ``securitynet``.
    """
    try:
        outcome = typer.main.get_command(app).main(
            list(arguments), prog_name="securitynet", standalone_mode=False
        )
        return outcome if isinstance(outcome, int) else EXIT_OK
    except SecurityNetError as error:
        return _say(str(error), error.exit_code, arguments)
    except click.ClickException as error:
        hint = f"see `securitynet {_verb(arguments)}--help`"
        return _say(f"{error.format_message().rstrip('.')}; {hint}", EXIT_USAGE, arguments)
    except (KeyboardInterrupt, click.Abort):
        command = shlex.join(["securitynet", *arguments])
        _say(f"interrupted; what is finished is kept, continue with: {command}", 0, arguments)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        return _say(f"{error.filename or ''}: {error.strerror}", EXIT_ENVIRONMENT, arguments)
    except Exception as error:  # the command line's boundary: one line, no traceback
        line = f"unexpected {type(error).__name__}: {error}; -vv shows where, please report it"
        return _say(line, EXIT_FAILED, arguments)


def _say(line: str, code: int, arguments: Sequence[str]) -> int:
    if "-vv" in arguments:
        traceback.print_exc()
    sys.stderr.write(f"securitynet: {' '.join(line.split())}\n")
    return code


def _verb(arguments: Sequence[str]) -> str:
    return f"{arguments[0]} " if arguments and not arguments[0].startswith("-") else ""
