"""Writes the generated files of this folder: ``methods.md``, ``cli.md``, ``tables.md``, schemas.

``make docs`` runs it; ``tests/test_docs.py`` fails when a committed page is not what it writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from securitynet.catalogue.completeness import counts, fill_rates, states
from securitynet.catalogue.datasets import known_datasets
from securitynet.catalogue.export_sqlite import SETS
from securitynet.catalogue.export_tables import TABLES, Table
from securitynet.catalogue.facts import FILES, NOT_PUBLIC, PublicFile
from securitynet.catalogue.generators.leads import lead_rows
from securitynet.catalogue.json_schema import card_schema, evaluation_schema
from securitynet.catalogue.sources import SOURCES
from securitynet.catalogue.tables import rows as catalogue_rows
from securitynet.cli.app import app
from securitynet.cli.completeness import share_in_words
from securitynet.registry import FAMILIES, KNOWLEDGE, Access, Method, Option, methods

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
        "Needs": needs(method),
        "Cost": method.cost,
        "Soundness": method.soundness,
        "Default set": variants(method),
        "Seeds": "the result depends on `--seeds`"
        if method.is_seeded
        else "one run, whatever `--seeds` says",
        "Version": str(method.version),
    }
    parts = [f"### {method.name}", method.summary, *([method.formula] if method.formula else [])]
    parts.append("\n".join(f"- {name}: {text}" for name, text in facts.items()))
    rows = [(f"`{o.name}`", f"`{value(o.default)}`", allowed(o), o.help) for o in method.options]
    parts += [table(("option", "default", "allowed", "meaning"), rows)] if rows else []
    return "\n\n".join(parts)


def needs(method: Method) -> str:
    """Say what a method needs or uses besides the target, and with which option."""
    usual = method.needs_of({})
    parts = [f"{what} ({KNOWLEDGE[what]})" for what in usual]
    for variant in method.variants:
        other = set(method.needs_of(variant)) - set(usual)
        parts += [f"with {settings(variant)} instead {what} ({KNOWLEDGE[what]})" for what in other]
    used = [what for what in method.uses if what not in usual]
    parts += [f"uses {what} where there are any" for what in used]
    return "; ".join(parts) or "nothing but the target"


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


def tables_page() -> str:
    """Return the page of all tables that ``report --export`` writes."""
    lines = [
        "# Tables of an export",
        NOTICE,
        "`securitynet report --export DIR` writes them: see [sharing](sharing.md). Each is a "
        "Parquet file; `list` columns are lists there. In `securitynet.db` lists and `json` are "
        "JSON texts, publications have a table of their own, and so have "
        + ", ".join(f"`model_{name}`" for name in SETS)
        + ".",
    ]
    lines += [described(item) for item in TABLES]
    return "\n\n".join(lines) + "\n"


def described(item: Table) -> str:
    """Return the section of one table."""
    words = {"texts": "list of text", "reals": "list of real"}
    rows = [
        (f"`{c.name}`", words.get(c.kind, c.kind), "" if c.is_required else "yes", c.about)
        for c in item.columns
    ]
    columns = table(("column", "type", "null = unknown", "meaning"), rows)
    key = ", ".join(f"`{name}`" for name in item.key)
    return "\n\n".join([f"## {item.name}", f"{item.title}. {item.about} Key: {key}.", columns])


def schema_text(schema: Mapping[str, Any]) -> str:
    """Return the text of a JSON Schema file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


PROVIDERS = {
    "torchvision": "115 weight entries of its 80 classifiers, less one of VGG-16 that has no "
    "classifier.",
    "timm": "Of 1,826 pretrained tags 1,321 have a head of 1,000 classes and 123 one of more than "
    "11,000; of the other 382, 269 have no head and 113 give embeddings. 50 of the 1,321 are "
    "torchvision's (44 by the tags `tv_` and `tv2_`, 6 by `swag_`): they are aliases of those "
    "models, not models.",
    "pytorchcv": "676 classifiers of its table, less 137 without published weights: 323 for "
    "ImageNet-1k, 70 for CIFAR-10, 68 for CIFAR-100, 63 for SVHN, 15 for CUB-200.",
    "medmnist": "12 sets of pictures with 12 weights each, 6 sets of volumes with 18.",
    "robustbench": "164 entries of its zoo for CIFAR and 42 for ImageNet; 30 records without "
    "weights are left out.",
    "robust-models-transfer": "The checkpoints that its README names.",
    "ivrl": "72 checkpoints for CIFAR-10 and 9 for MNIST in the repository.",
    "community": "Single checkpoints of their authors, one contributed file each; their bytes were "
    "verified.",
}
"""Provider -> how its number of models comes about."""
GAPS = """
- Checksums of the hub can only be read over the network: most of timm's models and those of
  robust-models-transfer ship without. `securitynet list models --provider timm --refresh` asks for
  them ([sharing](sharing.md#the-hub-live)); a model without one is pinned by its first download, by
  the hub's own sha256. timm's others are releases whose names carry the beginning of the sha256.
- timm publishes no accuracy on ImageNet-1k for heads of more than 11,000 classes, nor for models
  that are newer than its result tables.
- Authors, venue and year of a network's publication are in a table checked by hand, which names
  where the authors, the countries and nearly every venue were read (`publications.json`,
  `sources`). Where sources differ, arXiv's list of authors is taken. RobustBench's records name
  their own; a preprint of theirs that has appeared since carries the venue where that was checked.
- Countries are those of the institutions that the publication names, not of the people: those of
  the SecurityNet authors' published table where it lists the work; else read off the paper's text,
  the proceedings' list of its affiliations, or a page that repeats them. An institution counts
  with the place that is stated or that its name says (Microsoft Research Asia: China), else with
  its seat (Google: United States), whatever office an author sits in. For works of a few
  conferences the authors' public profiles there stand in for the text (`authors' profiles` in the
  table). What could not be read is unknown.
- timm's small `test_` networks, PP-HGNet, PP-LCNetV2, CSATv2 and MobileNet-EdgeTPU v2 have no
  publication.
- pytorchcv reports top-5 errors on ImageNet-1k and top-1 errors elsewhere; both count as an
  accuracy here.
- `licence looked up` includes the answer that nobody states one: such models carry the flag
  `licence-unknown`. `presumed` means that only the code has a licence.
- Pre-training is read off timm's tags; where a tag does not tell, it is unknown.
""".strip()


def catalogue_page() -> str:
    """Return the page on what the database holds and what it lacks."""
    found = catalogue_rows()
    numbers, state = counts(found), states(found, [])
    of_sets = Counter(row["dataset"] for row in found)
    facts = ("id", "name", "version", "classes", "train", "val", "test", "licence", "models")
    sets = (data_row(facts, of_sets[name]) for name, facts in known_datasets().items())
    places = (
        (f"`{key}`", f"[{item.title}]({item.url})", item.licence or "")
        for key, item in SOURCES.items()
    )
    lines = [
        "# What the database holds",
        NOTICE,
        f"{state['catalogued']:,} models are catalogued, the bytes of {state['verified']:,} of "
        f"them were verified, {state['evaluated']:,} are evaluated in the tables that ship with "
        "the package; `securitynet doctor --catalogue` adds what a store holds.",
        "## Models by provider",
        table(
            ("provider", "models", "how the number comes about"),
            ((name, f"{n:,}", PROVIDERS.get(name, "")) for name, n in numbers.items()),
        ),
        "## Filled facts",
        "Share of the models whose card has the fact. Unknown is `null`, never 0.",
        fill_table(fill_rates(found), list(numbers)),
        GAPS,
        "## Data sets",
        table(facts, sets),
        "## Sources of claims",
        table(("key", "source", "licence of its data"), places),
        *leads_section(),
        "## Renewing it",
        "`make catalogue` writes the tables again; the same sources give the same bytes. Some "
        "sources are files that no package carries: `make catalogue CATALOGUE=--fetch` downloads "
        "them at pinned commits and checks their bytes; `--facts FOLDER`, or `SECURITYNET_FACTS`, "
        "is a folder of your own, whose files go first. A table whose source is not there is kept. "
        "`--check` shows what would change; `--pin` asks the hub for revision and sha256 of its "
        "files, which later renewals keep.",
        table(("file", "source", "commit", "licence", "checked by"), map(facts_row, FILES)),
        "\n".join(f"- `{name}`: {why}." for name, why in NOT_PUBLIC.items()),
    ]
    return "\n\n".join(lines) + "\n"


def facts_row(item: PublicFile) -> tuple[str, ...]:
    """Return the row of one file that a generator reads."""
    how = f"sha256 `{item.sha256[:16]}`" if item.sha256 else "git ids of its content"
    made = "" if item.read is None else ", made of it"
    source = f"[{item.repository}]({item.url}){made}"
    return (f"`{item.name}`", source, f"`{item.revision[:12]}`", item.licence, how)


def leads_section() -> list[str]:
    """Return the section on projects that may hold more models."""
    found = lead_rows()
    n_usable = sum(row["is_usable"] for row in found)
    reasons = Counter(row["reason"] or "usable" for row in found)
    usable = (
        (f"[{row['title']}]({row['weights_url']})", f"{row['venue']} {row['year']}")
        for row in found
        if row["is_usable"]
    )
    return [
        "## Leads",
        f"{len(found)} projects that the SecurityNet authors link: papers with code, not models. "
        f"{n_usable} may hold a classifier's weights; nobody has looked. `securitynet list leads "
        "-w is_usable=yes` (`--json`, `--csv`) lists them; who finds weights behind one writes a "
        "[card](cards.md#contributing-a-card).",
        table(("what the published table says", "leads"),
              ((reason, str(n)) for reason, n in sorted(reasons.items()))),
        f"<details><summary>The {n_usable} usable ones</summary>",
        table(("project", "venue"), usable),
        "</details>",
    ]  # fmt: skip


def fill_table(rates: Iterable[Mapping[str, Any]], names: list[str]) -> str:
    """Return the table of filled facts, the total first."""
    ordered = ["total", *(name for name in names if name != "total")]
    rows = (
        (row["fact"], *(share_in_words(row[name]["share"]) for name in ordered)) for row in rates
    )
    return table(("fact", *ordered), rows)


def data_row(facts: Mapping[str, Any], n_models: int) -> tuple[str, ...]:
    """Return one data set's row of the page."""
    sizes = (facts[name] for name in ("n_classes", "n_train", "n_val", "n_test"))
    numbers = (f"{n:,}" if n else "" for n in sizes)
    version, licence = facts["version"] or "", facts["licence"] or "unknown"
    return (f"`{facts['id']}`", facts["title"], version, *numbers, licence, f"{n_models:,}")


PAGES = {
    "catalogue.md": catalogue_page,
    "methods.md": methods_page,
    "cli.md": cli_page,
    "tables.md": tables_page,
    "schema/card.schema.json": lambda: schema_text(card_schema()),
    "schema/evaluation.schema.json": lambda: schema_text(evaluation_schema()),
}


def main() -> None:
    """Write all generated pages."""
    for name, render in PAGES.items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
