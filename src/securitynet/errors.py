"""The errors a user can meet: one line each, with the exit code that belongs to it.

Every error says what happened, where, and what to do next. The command line prints
``str(error)`` and exits with ``error.exit_code``; nothing else is printed without ``-vv``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_INTEGRITY = 4
EXIT_INTERRUPTED = 130


class SecurityNetError(Exception):
    """The root of all errors raised on purpose.

    Args:
        what: What happened, one clause.
        where: The file, id or place it happened at.
        hint: What to do next.
        flags: Machine-readable reasons, copied into evaluation records.
    """

    exit_code = EXIT_FAILED

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        hint: str | None = None,
        flags: Iterable[str] = (),
    ) -> None:
        """Keep the parts apart; ``str()`` joins them into the one line a user reads."""
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        self.flags = tuple(flags)
        super().__init__(what)

    def __str__(self) -> str:
        """Return ``where: what; hint`` on one line."""
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.hint}" if self.hint else ""
        return " ".join(f"{place}{self.what}{advice}".split())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with all parts, so that an error crosses a process boundary whole."""
        return _rebuild, (type(self), self.what, self.where, self.hint, self.flags)


def _rebuild(
    kind: type[SecurityNetError],
    what: str,
    where: str | None,
    hint: str | None,
    flags: tuple[str, ...],
) -> SecurityNetError:
    return kind(what, where=where, hint=hint, flags=flags)


class UsageError(SecurityNetError):
    """Raised for input that cannot mean anything: unknown ids, options, malformed cards."""

    exit_code = EXIT_USAGE


class ResourceError(SecurityNetError):
    """Raised when the machine lacks something: a data set, the network, disk, an extra."""

    exit_code = EXIT_ENVIRONMENT


class IntegrityError(SecurityNetError):
    """Raised when bytes are not what they should be: checksum, truncated or corrupt files."""

    exit_code = EXIT_INTEGRITY


class UnsafeFileError(SecurityNetError):
    """Raised when the door refuses a checkpoint that could run code or cannot be decided."""


class RefusedError(SecurityNetError):
    """Raised when a figure would not be sound: accuracy gate, pre-flight, unsound references."""


class AccessError(SecurityNetError):
    """Raised when a method touches more of a target than it declared."""


N_CLOSE = 3
MANY = 200
LONG_ENOUGH = 4


def _near(name: str, choices: list[str]) -> list[str]:
    """Return the choices worth a closer look: of many, those that share most triples of letters."""
    if len(choices) <= MANY:
        return choices
    wanted = {name[i : i + 3] for i in range(len(name) - 2)}
    shared = [(-sum(part in choice for part in wanted), choice) for choice in choices]
    return [choice for _, choice in sorted(shared)[:MANY]]


def unknown_id(kind: str, name: str, known: Iterable[str], *, listing: str) -> UsageError:
    """Build the error for an unknown id, with the closest known ids as a suggestion.

    Args:
        kind: What was looked for, e.g. ``"model"``.
        name: The id as the user typed it.
        known: All valid ids.
        listing: The command that lists the valid ids.

    Returns:
        The error to raise.
    """
    choices = list(known)
    close = get_close_matches(name, _near(name, choices), n=N_CLOSE, cutoff=0.5)
    ending = name.split("/")[-1]
    whole = re.compile(rf"(?<![a-z0-9]){re.escape(ending)}(?![a-z0-9])")
    longer = [known_id for known_id in choices if ending in known_id]
    longer.sort(key=lambda known_id: (not whole.search(known_id), len(known_id), known_id))
    is_beginning = len(choices) > MANY and len(ending) >= LONG_ENOUGH
    close = [*longer, *close] if is_beginning else close or longer
    close = list(dict.fromkeys(close))[:N_CLOSE]
    advice = f"did you mean {' or '.join(close)}? " if close else ""
    return UsageError(f"unknown {kind} {name!r}", hint=f"{advice}see `{listing}`")
