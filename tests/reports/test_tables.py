"""Tables at many widths: nothing too wide, nothing lost, no word and no number broken."""

import io
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from securitynet.errors import UsageError
from securitynet.records import Measure
from securitynet.reports.tables import print_tables
from securitynet.reports.wording import cell, figure, name_of

WIDTHS = [24, 40, 60, 72, 80, 100, 120, 160, 200]
FIGURE = re.compile(r"-?[\d,]*\d(?:\.\d+)?")


@pytest.fixture(autouse=True)
def no_set_width(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def printed(records, width=None, by="model"):
    """What a terminal of that width is given, or a pipe."""
    given = {"width": width, "force_terminal": True} if width else {}
    console = Console(file=io.StringIO(), color_system=None, highlight=False, **given)
    print_tables(records, console, by=by)
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())


def words(text):
    return {word.strip("(),;:.") for word in text.split()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("by", ["model", "method", "origin"])
def test_no_line_is_wider_than_the_terminal(demo, width, by):
    lines = printed(demo[0], width, by).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 160])
@pytest.mark.parametrize("by", ["model", "method", "origin"])
def test_no_word_and_no_number_is_broken(demo, width, by):
    """Every word of a narrow table is a word of the unlimited one (or of the note on columns)."""
    note = "no room here for a wider terminal shows all left out"
    ours = words(printed(demo[0], None, by)) | words(note)
    assert words(printed(demo[0], width, by)) - ours == set()


def shown_columns(section_text, names):
    """The columns that a section does not call dropped."""
    note = re.search(r"no room here for ([^:]*): a wider", " ".join(section_text.split()))
    dropped = note[1].split(", ") if note else []
    return [name for name in names if name_of(name) not in dropped]


def section_of(text, title):
    start = text.index(title)
    return text[start : text.index("\n\n", start)]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, None])
def test_every_figure_is_there_or_its_column_is_named_as_dropped(demo, width):
    records, _ = demo
    text = printed(records, width)
    titles = {
        "Membership inference": ("mia", ["auc", "null", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct"]),
        "Model stealing": ("steal", ["accuracy", "agreement", "floor_agreement",
                                     "excess_agreement", "budget"]),
        "Backdoor detection (models)": ("backdoor.neural", ["p_value", "infected_label",
                                                            "attack_success", "trigger_l1"]),
        "Backdoor detection (inputs)": ("backdoor.strip", ["auroc", "tpr", "fpr"]),
    }  # fmt: skip
    for title, (start, names) in titles.items():
        section = section_of(text, title)
        flat = " ".join(section.split())
        kept = shown_columns(section, names)
        assert kept == names or (width is not None and width < 100)
        for record in records:
            if record.status == "ok" and record.method.startswith(start):
                parts = [part for name in kept for part in cell(record, name).split(" [", 1)]
                assert [part for part in parts if part not in flat] == []


def test_at_80_columns_nothing_is_dropped_but_what_cannot_fit(demo):
    """Membership with nulls has four figures with intervals: 22 + 4 x 16 cells are 86."""
    text = printed(demo[0], 80)
    notes = re.findall(r"no room here for ([^:]*):", text)
    assert notes == ["TPR@0.1%FPR"]


@pytest.fixture
def thefts(make):
    def one(response, accuracy, agreement, excess, flags=()):
        ends = {
            "accuracy": accuracy,
            "agreement": agreement,
            "floor_agreement": (0.945, 0.927, 0.963),
            "excess_agreement": excess,
        }
        measures = {name: Measure(*value, 600) for name, value in ends.items()}
        measures |= {"budget": Measure(600), "target_accuracy": Measure(0.948, 0.927, 0.965, 600)}
        return make.record("a/b", "steal.knockoff", measures=measures, flags=flags,
                           config={"response": response})  # fmt: skip

    return [
        one("hard", (0.974, 0.957, 0.991), (0.942, 0.924, 0.960), (-0.061, -0.26, 0.14)),
        one(
            "soft", (0.967, 0.944, 0.990), (0.952, 0.92, 0.98), (0.121, -0.33, 0.58), ("no-claim",)
        ),
    ]


def test_stealing_at_80_columns(thefts):
    assert section_of(printed(thefts, 80), "Model stealing").splitlines() == [
        "Model stealing  95% intervals in brackets",
        "method                  accuracy       agreement           floor         excess",
        "a/b on cifar10",
        "  target accuracy 0.948 [0.927, 0.965], budget 600, n 600",
        "  steal.knockoff           0.974           0.942           0.945         -0.061",
        "  response=hard   [0.957, 0.991]  [0.924, 0.960]  [0.927, 0.963]  [-0.26, 0.14]",
        "  steal.knockoff           0.967           0.952           0.945          0.121",
        "  response=soft   [0.944, 0.990]    [0.92, 0.98]  [0.927, 0.963]  [-0.33, 0.58]",
        "    flagged no-claim",
    ]


def test_a_pipe_gets_one_line_a_record(demo):
    records, _ = demo
    text = printed(records)
    for record in records:
        if record.method == "steal.knockoff":
            wanted = figure(record.measures["excess_agreement"])
            response = f"(response={record.config['response']})"
            assert any(wanted in line and response in line for line in text.splitlines())
    assert "no room here" not in text
    sentences = [line for line in text.splitlines() if line.startswith("  Membership inference: ")]
    assert len(sentences) == 7  # six models and a refused one


def test_a_set_number_of_columns_is_obeyed_by_a_pipe_too(demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(cell_len, printed(demo[0]).splitlines())) <= 70


def test_flags_of_all_rows_are_said_once(make):
    record = make.record
    auc = {"auc": Measure(0.5, 0.4, 0.6, 100)}
    rows = [record("a/b", "mia.loss", measures=auc, flags=("no-claim", "few-nonmembers")),
            record("a/b", "mia.logit", measures=auc, flags=("no-claim",))]  # fmt: skip
    lines = printed(rows, 80).splitlines()
    assert lines.count("  all flagged no-claim") == 1
    assert lines.count("    flagged few-nonmembers") == 1
    assert sum(line.startswith("no-claim: Nobody") for line in lines) == 1


def test_a_refusal_of_many_methods_is_one_paragraph(make):
    reason = "accuracy 0.412 on 1,000 test images, 0.93 claimed"
    records = [
        make.record("a/b", method, status="refused", error=reason)
        for method in ("mia.loss", "mia.logit", "steal.knockoff")
    ]
    text = " ".join(printed(records, 80).split())
    assert text.count(reason) == 3  # in either section, and once among the verdicts
    assert "mia.loss, mia.logit: refused: accuracy" in text
    assert "Membership inference, Model stealing: Not evaluated (refused: accuracy" in text


def test_no_records():
    assert printed([], 80) == "no results\n"


def test_an_unknown_grouping_is_refused(demo):
    with pytest.raises(UsageError, match="unknown grouping 'modle'"):
        printed(demo[0], 80, by="modle")


def test_groups_show_the_left_out_column_only_if_something_was(demo, make):
    records, _ = demo
    fine = [record for record in records if record.status == "ok"]
    assert "left out" not in printed(fine, None, by="method")
    assert "left out" in printed(records, None, by="method")


HOSTILE = "a/\x1b[2J\x1b]0;t\x07\u202e<b>[red]x[/red]\r\n" + "y" * 1_000_000


@pytest.mark.parametrize("width", [40, 80, None])
def test_hostile_texts_neither_act_nor_flood(make, width):
    auc = {"auc": Measure(0.5, 0.4, 0.6, 100)}
    values = {"origin": HOSTILE, "dataset": HOSTILE, "flags": (HOSTILE,)}
    fine = make.record(HOSTILE, f"mia.{HOSTILE}", measures=auc, **values)
    bad = make.record(HOSTILE, f"mia.{HOSTILE}", status="failed", error=HOSTILE, **values)
    for by in ("model", "origin"):
        text = printed([fine, bad], width, by)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", text)
        assert len(text) < 20_000
        if width:
            assert max(map(cell_len, text.splitlines())) <= width


def test_markup_in_a_name_is_text(make):
    record = make.record("[red]a[/red]/b", measures={"auc": Measure(0.5, 0.4, 0.6, 100)})
    assert "[red]a[/red]/b on cifar10" in printed([record], 80)


def test_huge_figures_stay_figures(make):
    measures = {"auc": Measure(1e300, -1e300, 1e300, 10**400 // 10**380)}
    assert max(map(cell_len, printed([make.record(measures=measures)], 80).splitlines())) <= 80


def test_a_table_imports_neither_matplotlib_nor_torch():
    code = (
        "import sys; from rich.console import Console; from securitynet.records import *\n"
        "from securitynet.reports.tables import print_tables\n"
        "from securitynet.reports.html import render_html\n"
        "r = Evaluation('k', 'mia.loss', 1, {}, 'a/b', 'w', 'other', 'd', 0, 'ok',"
        " {'auc': Measure(.7, .6, .8, 100)})\n"
        "print_tables([r], Console()); render_html([r], dict().__getitem__, title='t')\n"
        "print([m for m in ('matplotlib', 'torch', 'sklearn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
