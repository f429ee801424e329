"""Writes the generated pages of this folder: ``methods.md`` and ``cli.md``.

``make docs`` runs it; ``tests/test_docs.py`` fails when a committed page is not what it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from securitynet.cli.app import app
from securitynet.registry import FAMILIES, Access, Method, Option, methods

DOCS = Path(__file__).resolve().parent
NOTICE = "<!-- Written by docs/generate.py from the code; `make docs` renews it. -->"
ACCESS = {
    Access.LABELS: "the predicted label",
    Access.TOP_K: "the scores of the top classes",
    Access.SCORES: "the scores of all classes",
    Access.LOGITS: "the logits",
    Access.GRADIENTS: "gradients with respect to the input",
    Access.WEIGHTS: "the weights",
}


def methods_page() -> str:
    """Return the page of all methods that come with the package."""
    built_in = [m for m in methods().values() if m.config.__module__.startswith("securitynet.")]
    lines = [
        "# Methods",
        NOTICE,
        "The harness, not the method, computes every figure: see [soundness](soundness.md). "
        "`*` marks a method that its family's default set runs. "
        "An option is set with `-o METHOD.OPTION=VALUE`.",
        table(
            ("method", "summary", "sees", "paper"),
            (
                (f"[`{m.name}`](#{anchor(m.name)}){star(m)}", m.summary, m.access.name, m.paper)
                for m in built_in
            ),
        ),
        table(("access", "the method may see"), ((a.name, t) for a, t in ACCESS.items())),
    ]
    for family, prefix in FAMILIES.items():
        lines.append(f"## {family}")
        lines += (section(m) for m in built_in if m.family == prefix)
    return "\n\n".join(lines) + "\n"


def anchor(name: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return name.replace(".", "")


def star(method: Method) -> str:
    """Return the mark of a method in its family's default set."""
    return " *" if method.variants else ""


def section(method: Method) -> str:
    """Return the section of one method."""
    facts = {
        "Access": f"{method.access.name}: {ACCESS[method.access]}",
        "Paper": method.paper,
        "Cost": method.cost,
        "Soundness": method.soundness,
        "Default set": variants(method),
        "Seeds": "the result depends on `--seeds`"
        if method.is_seeded
        else "one run, whatever `--seeds` says",
        "Version": str(method.version),
    }
    parts = [f"### {method.name}", method.summary]
    parts.append("\n".join(f"- {name}: {text}" for name, text in facts.items()))
    rows = [(f"`{o.name}`", f"`{value(o.default)}`", allowed(o), o.help) for o in method.options]
    parts += [table(("option", "default", "allowed", "meaning"), rows)] if rows else []
    return "\n\n".join(parts)


def variants(method: Method) -> str:
    """Say which configurations the family's default set runs."""
    if not method.variants:
        return "no"
    named = [settings(variant) for variant in method.variants]
    return "; ".join(named)


def settings(variant: Mapping[str, Any]) -> str:
    """Return one configuration in words."""
    changed = ", ".join(f"`{name}={value(item)}`" for name, item in variant.items())
    return changed or "as it stands"


def allowed(option: Option) -> str:
    """Return an option's choices or bounds."""
    if option.choices:
        return ", ".join(f"`{value(choice)}`" for choice in option.choices)
    bounds = [] if option.low is None else [f"at least {option.low:g}"]
    bounds += [] if option.high is None else [f"at most {option.high:g}"]
    return ", ".join(bounds) or kind(option.type)


def kind(annotation: Any) -> str:
    """Return a type as a reader would say it."""
    words = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return words.get(annotation, "comma-separated list")


def value(item: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(item, tuple):
        return ",".join(map(str, item)) or "none"
    return str(item).lower() if isinstance(item, bool) else str(item)


def cli_page() -> str:
    """Return the page of all verbs and their options."""
    group = typer.main.get_command(app)
    lines = ["# Command line", NOTICE, "`securitynet VERB`, or `securitynet --version`."]
    lines += (verb(name, command) for name, command in verbs(group))
    return "\n\n".join(lines) + "\n"


def verbs(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield every verb with its command, subcommands as ``verb sub``."""
    for name, command in getattr(group, "commands", {}).items():
        inner = [(f"{name} {sub}", item) for sub, item in verbs(command)]
        yield from inner or [(name, command)]


def verb(name: str, command: Any) -> str:
    """Return the section of one verb."""
    parameters = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option" and p.name != "help"]
    named = [p.metavar or p.name.upper() for p in arguments]
    parts = [f"## {name}", f"`{' '.join(['securitynet', name, *named])}`"]
    parts.append(" ".join((command.help or "").split()))
    rows = [(f"`{text}`", "", p.help or "") for text, p in zip(named, arguments, strict=True)]
    rows += [(flags(p), shown_default(p), p.help or "") for p in options]
    return "\n\n".join([*parts, table(("option", "default", "meaning"), rows)])


def flags(parameter: Any) -> str:
    """Return the spellings of an option."""
    return ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))


def shown_default(parameter: Any) -> str:
    """Return an option's default, nothing for switches and for none."""
    default = parameter.default
    is_plain = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    is_count = getattr(parameter, "count", False)
    return f"`{getattr(default, 'value', default)}`" if is_plain and not is_count else ""


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(header)
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def cell(text: str) -> str:
    """Return text that cannot break out of a table's cell."""
    return " ".join(text.replace("|", "\\|").split())


PAGES = {"methods.md": methods_page, "cli.md": cli_page}


def main() -> None:
    """Write all generated pages."""
    for name, render in PAGES.items():
        (DOCS / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
