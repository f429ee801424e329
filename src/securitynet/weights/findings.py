"""Evidence against a file, and the verdict it adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["SAFE", "UNSAFE", "UNDECIDED"]
Kind = Literal["danger", "damage", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One piece of evidence.

    Attributes:
        what: What is wrong, in words.
        member: Member of the archive, or part of the file.
        offset: Byte offset in the member.
        opcode: Pickle opcode.
        name: Global that would be imported.
        kind: ``danger`` (code, or a trick), ``damage`` (not whole) or ``unknown`` (not decided).
    """

    what: str
    member: str = ""
    offset: int | None = None
    opcode: str | None = None
    name: str | None = None
    kind: Kind = "danger"

    def __str__(self) -> str:
        """Return the finding on one line."""
        at = None if self.offset is None else f"at byte {self.offset}"
        return " ".join(part for part in (self.member, at, self.opcode, self.what) if part)


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return ``UNSAFE`` for any danger, ``UNDECIDED`` for any other finding, else ``SAFE``."""
    kinds = {finding.kind for finding in findings}
    return "UNSAFE" if "danger" in kinds else "UNDECIDED" if kinds else "SAFE"


def damage(what: str, member: str = "", offset: int | None = None) -> Finding:
    """Return the finding that a file is not whole."""
    return Finding(what=what, member=member, offset=offset, kind="damage")


def unknown(what: str, member: str = "", offset: int | None = None) -> Finding:
    """Return the finding that something cannot be decided, and so is refused."""
    return Finding(what=what, member=member, offset=offset, kind="unknown")
