"""Evidence against a file, and the verdict it adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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

    @property
    def rule(self) -> str:
        """What kind of evidence this is: one of :data:`RULES`."""
        if self.kind == "danger":
            return "disallowed-import" if self.name else "code-or-trick"
        return "damaged" if self.kind == "damage" else "undecided"

    def inside(self, member: str) -> Finding:
        """Return the finding as one of a file inside an archive: ``archive member!member``."""
        inner = f"!{self.member}" if self.member else ""
        return replace(self, member=f"{printable(member)}{inner}")


RULES = {
    "disallowed-import": "The file would import and call a name that tensors do not need.",
    "code-or-trick": "The file carries code, or is built so that two readers see two files.",
    "damaged": "The file is not whole.",
    "undecided": "What the file would do cannot be decided without running it.",
}
"""Every kind of evidence, in a sentence."""


@dataclass(frozen=True)
class Tensors:
    """What a file says of its tensors, found without loading them.

    Attributes:
        count: Number of tensors.
        elements: Elements in all.
        dtypes: Names as in ``float32``, sorted.
    """

    count: int = 0
    elements: int = 0
    dtypes: tuple[str, ...] = ()

    def __add__(self, other: Tensors) -> Tensors:
        """Return the tensors of both."""
        dtypes = tuple(sorted({*self.dtypes, *other.dtypes}))
        return Tensors(self.count + other.count, self.elements + other.elements, dtypes)


@dataclass(frozen=True)
class Contents:
    """What a check found in a file.

    Attributes:
        findings: Evidence against it.
        tensors: Its tensors, ``None`` where the format does not tell.
    """

    findings: list[Finding] = field(default_factory=list)
    tensors: Tensors | None = None


def printable(text: str, length: int = 200) -> str:
    """Return a foreign name as it can be shown: bounded, control and direction marks escaped."""
    cut = text if len(text) <= length else f"{text[:length]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


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
