"""Exports read back: by pandas, by a TeX tokeniser, as JSON by the command line."""

import csv
import io
import json
import re
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest

from securitynet.records import Evaluation, Measure
from securitynet.reports.export import to_csv, to_frame, to_latex
from securitynet.runs.store import Store

approx = partial(pytest.approx, rel=1e-14, abs=0)


def read_back(records):
    return pd.read_csv(io.StringIO(to_csv(records)))


def test_the_csv_holds_every_measure_exactly(demo):
    records, _ = demo
    table = read_back(records)
    for record in records:
        rows = table[table["key"] == record.key]
        for kind, group in (("measure", record.measures), ("control", record.nulls)):
            mine = rows[rows["kind"] == kind].set_index("measure")
            assert set(mine.index) == set(group)
            for name, measure in group.items():
                for column in ("value", "low", "high", "n"):
                    expected = getattr(measure, column)
                    found = mine.loc[name, column]
                    # pandas' parser may be off by the last digit
                    assert pd.isna(found) if expected is None else found == approx(expected)
        assert set(rows["model"]) == {record.model} and set(rows["status"]) == {record.status}
        assert json.loads(rows["config"].iloc[0]) == record.config


def test_a_record_without_figures_keeps_a_row(make):
    record = make.record(status="refused", error="accuracy 0.4", flags=("accuracy-gate", "x"))
    (row,) = read_back([record]).to_dict("records")
    assert (row["status"], row["error"], row["flags"]) == (
        "refused",
        "accuracy 0.4",
        "accuracy-gate x",
    )
    assert pd.isna(row["measure"]) and pd.isna(row["value"])


def test_the_csv_tells_repetitions_apart(make):
    records = [make.record(measures={"auc": Measure(0.5)}, seed=s, limit=n, version=v)
               for s, n, v in ((0, None, 1), (1, 100, 2))]  # fmt: skip
    table = read_back(records)
    assert table[["seed", "version"]].to_numpy().tolist() == [[0, 1], [1, 2]]
    assert pd.isna(table["limit"][0]) and table["limit"][1] == 100


def test_no_records():
    assert list(read_back([]).columns)[:2] == ["key", "model"]
    assert to_latex([]) == ""
    assert len(to_frame([])) == 0


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_spreadsheet_runs_nothing(make, start):
    text = f'{start}cmd|" /C calc"!A0'
    record = make.record(
        text, text, status=text, error=text, dataset=text, origin=text, flags=(text,),
        measures={text: Measure(-0.5)}, config={text: text},
    )  # fmt: skip
    cells = next(csv.DictReader(io.StringIO(to_csv([record]))))
    assert cells["value"] == "-0.5"
    assert not [k for k, cell in cells.items() if cell.startswith(("=", "+", "@")) or cell == text]
    assert cells["model"] == f"'{text}"


def test_line_breaks_and_quotes_do_not_break_rows(make):
    record = make.record('a"b,c\nd', status="failed", error="one\ntwo\r\nthree")
    rows = list(csv.reader(io.StringIO(to_csv([record]))))
    assert len(rows) == 2 and rows[1][1] == 'a"b,c�d'


def test_the_frame_has_a_column_a_figure(demo):
    records, _ = demo
    frame = to_frame(records)
    assert len(frame) == len(records)
    by_key = frame.set_index("key")
    for record in records:
        for name, measure in (*record.measures.items(), *record.nulls.items()):
            for suffix, expected in (("", measure.value), ("_low", measure.low), ("_n", measure.n)):
                found = by_key.loc[record.key, name + suffix]
                assert pd.isna(found) if expected is None else found == expected
    assert "details" not in frame


# --- LaTeX


def tokens(text):
    """Control sequences and single characters, as TeX reads them with the usual categories."""
    return re.findall(r"\\[A-Za-z]+|\\.|.|\n", text, flags=re.S)


def depth(text):
    found = tokens(text)
    level = 0
    for token in found:
        level += (token == "{") - (token == "}")
        assert level >= 0
    return level


def test_latex_is_balanced_and_escaped(demo):
    text = to_latex(demo[0])
    assert depth(text) == 0
    assert not set(tokens(text)) & {"_", "#", "~", "^", "%"}
    assert tokens(text).count("$") % 2 == 0
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    for table in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(\w+)\}", table)[1])
        body = table[: table.index(r"\end{tabular}")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {tokens(row).count("&") for row in rows} == {columns - 1}


def test_latex_shows_the_figures(make):
    measures = {
        "accuracy": Measure(0.974, 0.957, 0.991, 600),
        "excess_agreement": Measure(-0.061, -0.26, 0.14, 600),
    }
    rows = [make.record("a_b/c", "steal.knockoff", measures=measures, config={"response": r})
            for r in ("soft", "hard")]  # fmt: skip
    lines = to_latex(rows).splitlines()
    assert r"Model & Method & accuracy & excess \\" in lines
    figures = r"0.974 [0.957, 0.991] & $-$0.061 [$-$0.26, 0.14] \\"
    assert rf"a\_b/c & steal.knockoff (response=soft) & {figures}" in lines
    assert rf" & steal.knockoff (response=hard) & {figures}" in lines


def test_latex_names_the_data_set_where_there_are_several(make):
    measures = {"auc": Measure(0.5, 0.4, 0.6, 100)}
    rows = [make.record("a/b", dataset=name, measures=measures) for name in ("mnist", "digits")]
    text = to_latex(rows)
    assert "a/b on mnist &" in text and "a/b on digits &" in text


@pytest.mark.parametrize(
    "text",
    [r"\input{/etc/passwd}", r"$x^2$", "%comment", "a&b", r"\\[1cm]", "[x]", "*", "}{", "#1~"],
)
def test_hostile_texts_are_inert_in_latex(make, text):
    name = "mia." + text
    record = make.record(text, name, measures={"auc": Measure(0.5, 0.4, 0.6, 9)}, dataset=text)
    found = to_latex([record])
    assert depth(found) == 0
    known = {r"\begin", r"\end", r"\centering", r"\footnotesize", r"\caption", r"\toprule",
             r"\midrule", r"\bottomrule", r"\textbackslash", r"\textasciitilde",
             r"\textasciicircum", r"\dots"}  # fmt: skip
    assert {t for t in tokens(found) if re.match(r"\\[A-Za-z]", t)} <= known
    (row,) = [line for line in found.splitlines() if "0.500" in line]
    assert tokens(row).count("&") == 2 and tokens(row).count(r"\\") == 1
    assert not row.lstrip().startswith(("[", "*"))


# --- the command line


@pytest.fixture
def filled(demo, tmp_path):
    records, read_array = demo
    store = Store(tmp_path / "store")
    kept = [record for record in records if record.model in ("self/digits-badnets", "timm/odd")]
    for record in kept:
        arrays = {name: read_array(sha) for name, sha in record.blobs.items()}
        store.put(Evaluation.from_json({**record.to_json(), "blobs": {}}), arrays)
    return store, kept


def report(store, *options):
    code = "from securitynet.cli.app import main; main()"
    command = [sys.executable, "-c", code, "report", "--store", str(store.folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command_writes_all_kinds(filled, tmp_path):
    store, kept = filled
    names = ("r.html", "r.csv", "r.tex")
    flags = [text for flag, name in zip(("--html", "--csv", "--latex"), names, strict=True)
             for text in (flag, str(tmp_path / name))]  # fmt: skip
    done = report(store, *flags, "--json")
    assert done.returncode == 0, done.stderr
    found = {r["key"]: Evaluation.from_json(r) for r in json.loads(done.stdout)}
    assert {key: r.measures for key, r in found.items()} == {r.key: r.measures for r in kept}
    assert len(pd.read_csv(tmp_path / "r.csv")) > len(kept)
    assert (tmp_path / "r.html").read_text().count("Reversed trigger for class") == 10
    assert depth((tmp_path / "r.tex").read_text()) == 0


def test_an_empty_store_says_what_to_do(tmp_path):
    done = report(Store(tmp_path / "none"))
    assert done.returncode == 2 and done.stdout == ""
    assert "no results" in done.stderr and "securitynet run" in done.stderr
    assert len(done.stderr.splitlines()) == 1
