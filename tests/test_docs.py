"""The guide says what the code does: generated pages, examples, cards, records, flags, links."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import typer

from securitynet import errors
from securitynet.catalogue.cards import ModelCard, Publication, Weights, parse_card
from securitynet.cli.app import app
from securitynet.records import Evaluation
from securitynet.registry import FAMILIES, methods

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def read(path):
    return path.read_text(encoding="utf-8")


def blocks(text, language):
    """Return the fenced blocks of a language, ``json card`` and the like."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = (
    "catalogue.md", "methods.md", "cli.md", "tables.md", "schema/card.schema.json",
    "schema/evaluation.schema.json",
)  # fmt: skip


def test_every_generated_page_is_checked(generator):
    assert set(GENERATED) == set(generator.PAGES)


@pytest.mark.parametrize("page", GENERATED)
def test_a_generated_page_is_up_to_date(generator, page):
    assert read(DOCS / page) == generator.PAGES[page](), "`make docs` renews it"


def test_every_method_and_option_is_documented():
    page = read(DOCS / "methods.md")
    built_in = [m for m in methods().values() if m.config.__module__.startswith("securitynet.")]
    assert built_in
    for entry in built_in:
        assert f"### {entry.name}\n" in page
        section = page.split(f"### {entry.name}\n")[1].split("\n### ")[0]
        for option in entry.options:
            assert f"| `{option.name}` |" in section
            assert option.help.replace("|", "\\|") in section


def test_every_membership_method_shows_its_formula_cost_conditions_and_needs():
    page = read(DOCS / "methods.md")
    for entry in (m for m in methods().values() if m.family == "mia"):
        if not entry.config.__module__.startswith("securitynet."):
            continue
        section = page.split(f"### {entry.name}\n")[1].split("\n### ")[0]
        assert "Score: " in entry.formula and entry.formula in section, entry.name
        for line in (entry.paper, entry.cost, entry.soundness):
            assert len(line) > 20 and line in section, entry.name
        for what in {*entry.needs_of({}), *entry.uses}:
            assert what in section.split("- Needs: ")[1].split("\n")[0], entry.name
        is_checked = set(entry.needs) & {"membership", "references", "in_references"}
        assert not is_checked or "controls" in entry.soundness, entry.name


def test_every_method_says_where_it_comes_from():
    for entry in methods().values():
        assert entry.paper and entry.cost and entry.soundness, entry.name
        assert entry.summary.endswith((".", "?")), f"{entry.name}: a summary is one sentence"
        assert all(option.help for option in entry.options), entry.name


def test_every_verb_is_documented():
    page, readme = read(DOCS / "cli.md"), read(ROOT / "README.md")
    commands = typer.main.get_command(app).commands
    for name, command in commands.items():
        assert f"\n## {name}" in page
        assert command.help, name
    mentioned = set(re.findall(r"securitynet ([a-z]+)\b", " ".join(blocks(readme, "console"))))
    assert mentioned <= set(commands), "the README names a verb that is none"


def test_the_card_of_the_guide_is_a_model():
    from securitynet.targets.build import build_module

    (block,) = blocks(read(DOCS / "cards.md"), "json card")
    card = parse_card(json.loads(block), where="docs/cards.md")
    module = build_module(card)
    import torch

    spec = card.input
    inputs = torch.zeros(2, spec.channels, spec.height, spec.width)
    assert module(inputs).shape == (2, card.num_classes)


def test_every_field_of_a_card_is_explained():
    page = read(DOCS / "cards.md")
    names = {f.name for kind in (ModelCard, Weights, Publication) for f in fields(kind)}
    assert not {name for name in names - {"folder", "weights", "input"} if f"`{name}`" not in page
                and f".{name}`" not in page}  # fmt: skip


def test_every_layer_of_a_card_is_listed():
    from securitynet.targets.architectures import LAYERS
    from securitynet.targets.build import LIBRARIES

    page = read(DOCS / "cards.md")
    assert not [name for name in LAYERS if f"`{name}`" not in page]
    assert not [name for name in LIBRARIES if f'`"{name}/' not in page]


def test_the_record_of_the_guide_is_a_record():
    (block,) = blocks(read(DOCS / "results.md"), "json record")
    record = json.loads(block)
    assert set(record) == {f.name for f in fields(Evaluation)}
    assert Evaluation.from_json(record).measures["auc"].n == 1194


def test_every_field_of_a_record_and_every_exit_code_is_explained():
    page = read(DOCS / "results.md")
    assert not [f.name for f in fields(Evaluation) if f"`{f.name}`" not in page]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert codes == {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.M)}


def test_every_flag_is_explained():
    from securitynet.reports.wording import FLAGS

    page = read(DOCS / "results.md")
    assert not [name for name in FLAGS if f"| `{name}` |" not in page]


def test_the_page_on_adding_a_method_shows_the_example():
    (block,) = blocks(read(DOCS / "adding-a-method.md"), "python")
    assert block.strip() in read(ROOT / "examples" / "own_method.py")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "mia." in done.stdout


def test_the_python_of_the_readme_uses_public_names():
    import securitynet

    (block,) = blocks(read(ROOT / "README.md"), "python")
    compile(block, "README.md", "exec")
    assert not set(re.findall(r"\bsn\.(\w+)", block)) - set(securitynet.__all__)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = read(path)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in target:
            assert target.startswith("https://")
            continue
        linked = path.parent / file if file else path
        assert linked.exists(), f"{path.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", read(linked), flags=re.M)
            known = [re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles]
            assert anchor in known, f"{path.name} links to {target}"


def test_the_families_have_their_names():
    assert all(family in read(DOCS / "methods.md") for family in FAMILIES)


def test_the_share_of_clean_models_above_two_is_as_stated():
    from securitynet.backdoor._anomaly import anomaly_index

    rng = np.random.default_rng(0)
    page = read(DOCS / "soundness.md")
    for n_classes, stated in ((10, 0.33), (100, 0.88)):
        norms = 100 + rng.standard_normal((3000, n_classes))
        share = np.mean([anomaly_index(row) > 2 for row in norms])
        assert abs(share - stated) < 0.03
        assert f"{stated:.0%}" in page
