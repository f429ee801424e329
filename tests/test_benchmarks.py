"""The benchmarks: their statistics, their order, what they refuse, and the page they write."""

import importlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from securitynet.errors import RefusedError, ResourceError

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
MODULES = (
    "pairs",
    "page",
    "run",
    "ground",
    "one_pass",
    "art_attacks",
    *(f"bench_{name}" for name in NAMES),
)

FAKE = '''
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from pairs import Comparison, Quality

@dataclass(frozen=True)
class Fake:
    """One addition against another."""
    n: int = 3
    x: float = 0.5
    fault: str = ""

    def __call__(self, ground):
        def fail(*answers):
            raise (KeyboardInterrupt if self.fault == "interrupt" else ZeroDivisionError)("in /a/b")
        judge = fail if self.fault else lambda ours, other: Quality("sum 1 = 1", ours == other)
        return Comparison("ours", "plain", lambda: 1, lambda: 1, judge, self.n)

BENCHMARK, QUICK = Fake(), Fake(n=1)
'''


@pytest.fixture(scope="module")
def bench():
    """Return the modules of the folder, as a run of its ``run.py`` sees them."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(str(FOLDER))
    for name in set(MODULES) - before:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """A run sets how threads wait; that must not outlive its test."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture
def fake(bench, tmp_path, monkeypatch):
    """Return a function that runs ``run.py`` in a folder with one benchmark that costs nothing."""

    def fake(*arguments, fault=""):
        text = FAKE.replace("Fake(), ", f"Fake(fault={fault!r}), ")
        (tmp_path / "bench_fake.py").write_text(text)
        monkeypatch.setattr(bench.run, "HERE", tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "bench_fake", raising=False)
        return bench.run.main(arguments)

    return fake


class Sides:
    """Two sides that advance a clock of their own and write down their order."""

    def __init__(self, bench, ours, other, *, qualities=(), limit=None, least=None):
        self.calls, self.now = [], 0.0
        self._seconds = {"ours": iter((9.0, *ours)), "other": iter((9.0, *other))}
        self._qualities = iter(qualities)
        self.comparison = bench.pairs.Comparison(
            "our way", "the plain way", lambda: self.run("ours"), lambda: self.run("other"),
            self.judge, 100, limit=limit, least=least,
        )  # fmt: skip
        self._quality = bench.pairs.Quality

    def run(self, side):
        self.calls.append(side)
        self.now += next(self._seconds[side])
        return side

    def judge(self, ours, other):
        assert (ours, other) == ("ours", "other")
        self.now += 1000.0  # must not count
        is_equal = next(self._qualities, True)
        return self._quality("agreement 0.5", is_equal)

    def measure(self, bench, n_pairs):
        return bench.pairs.measure(self.comparison, n_pairs, clock=lambda: self.now)


def test_runs_alternate_and_the_first_of_each_side_is_not_timed(bench):
    sides = Sides(bench, (1.0, 2.0, 6.0), (4.0, 4.0, 9.0))
    result = sides.measure(bench, 3)
    assert sides.calls == ["ours", "other"] * 4
    assert result.seconds.ours == (1.0, 2.0, 6.0) and result.seconds.other == (4.0, 4.0, 9.0)
    assert result.quality.figures == "agreement 0.5"


def test_the_ratio_is_of_medians_and_its_range_of_pairs(bench):
    seconds = bench.pairs.Seconds((1.0, 2.0, 6.0), (4.0, 4.0, 9.0))
    assert seconds.speedup() == (2.0, 1.5, 4.0)
    assert seconds.overhead() == (0.5, 0.25, 6 / 9)


def test_the_ratio_of_medians_lies_in_its_range(bench):
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 6) * 50:
        ours, other = rng.lognormal(size=(2, n)).tolist()
        for value, low, high in (
            bench.pairs.Seconds(tuple(ours), tuple(other)).speedup(),
            bench.pairs.Seconds(tuple(ours), tuple(other)).overhead(),
        ):
            assert low <= value * (1 + 1e-12) and value <= high * (1 + 1e-12)


@pytest.mark.parametrize(("ours", "other"), [((), ()), ((1.0,), (1.0, 2.0)), ((0.0,), (1.0,))])
def test_what_are_no_pairs_has_no_ratio(bench, ours, other):
    with pytest.raises(ValueError, match="no"):
        bench.pairs.Seconds(ours, other)


@pytest.mark.parametrize(("qualities", "n_calls"), [((False,), 2), ((True, True, False), 6)])
def test_sides_of_unequal_quality_are_refused(bench, qualities, n_calls):
    sides = Sides(bench, (1.0,) * 5, (9.0,) * 5, qualities=qualities)
    with pytest.raises(RefusedError, match=r"differ in quality.*agreement 0\.5"):
        sides.measure(bench, 5)
    assert len(sides.calls) == n_calls, "it stops at once"


def test_a_floor_has_a_limit(bench):
    kept = Sides(bench, (1.1,) * 3, (1.0,) * 3, limit=1.15).measure(bench, 3)
    missed = Sides(bench, (1.2,) * 3, (1.0,) * 3, limit=1.15).measure(bench, 3)
    assert kept.is_within_limit and not missed.is_within_limit
    assert bench.page.ratio(kept) == "**1.10** (1.10 to 1.10) times as long; at most 1.15: kept"
    assert bench.page.ratio(missed).endswith("at most 1.15: **MISSED**")


def test_a_promise_is_kept_or_missed(bench):
    kept = Sides(bench, (1.0,) * 3, (2.0,) * 3, least=2.0).measure(bench, 3)
    missed = Sides(bench, (1.1,) * 3, (2.0,) * 3, least=2.0).measure(bench, 3)
    assert kept.is_within_limit and not missed.is_within_limit
    assert bench.page.ratio(kept) == "**2.00** (2.00 to 2.00) times as fast; at least 2: kept"
    assert bench.page.ratio(missed).endswith("at least 2: **MISSED**")


def test_a_better_auc_is_as_good_where_methods_differ(bench):
    rng = np.random.default_rng(0)
    better = rng.normal(2, 1, 80), rng.normal(0, 1, 60)
    worse = better[0] - 1.5, better[1]
    assert bench.pairs.compare_aucs(better, worse, may_be_better=True).is_equal
    assert not bench.pairs.compare_aucs(worse, better, may_be_better=True).is_equal
    assert not bench.pairs.compare_aucs(better, worse).is_equal


def test_aucs_are_compared_pairwise(bench):
    rng = np.random.default_rng(0)
    ours = rng.normal(1, 1, 80).round(1), rng.normal(0, 1, 60).round(1)
    truth = roc_auc_score([1] * 80 + [0] * 60, np.concatenate(ours))
    same = bench.pairs.compare_aucs(ours, ours)
    assert same.is_equal and same.figures.startswith(f"AUC {truth:.4f}, the other's {truth:.4f} (")
    noisy = tuple(group + rng.normal(0, 0.01, len(group)) for group in ours)
    assert bench.pairs.compare_aucs(ours, noisy).is_equal
    worse = ours[0] - 0.5, ours[1]
    assert not bench.pairs.compare_aucs(ours, worse).is_equal


def test_the_page_says_what_was_measured_and_names_no_path(bench):
    result = Sides(bench, (1.0, 2.0, 6.0), (4.0, 4.0, 9.0)).measure(bench, 3)
    outcomes = [
        bench.page.Outcome("one", "A against B.", {"n": 5}, result),
        bench.page.Outcome("two", "C | D.", {}, reason="cannot read /some/folder/x.th or ~/a/b"),
    ]
    page = bench.page.render(outcomes, ["a model"], 3, is_quick=False, load=0.5)
    assert "| ours: our way | 2 | 50 |" in page and "| the other: the plain way | 4 | 25 |" in page
    assert "**2.00** (1.50 to 4.00) times as fast | agreement 0.5 |" in page
    assert "Settings: n 5." in page and "| 100 images | s | images/s |" in page
    assert "**Not measured:** cannot read (a path) or (a path)" in page
    assert f"torch {torch.__version__.split('+')[0]}" in page and "smoke" not in page
    assert [outcome.is_fine for outcome in outcomes] == [True, False]
    lengths = {line.count("|") for line in page.split("## one")[1].split("## ")[0].splitlines()}
    assert lengths == {0, 3, 4}, "rows of a table are as long as its head"


def test_a_new_file_is_a_new_benchmark(fake, tmp_path, capsys):
    assert fake() == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert page == capsys.readouterr().out
    assert "## fake" in page and "sum 1 = 1" in page and "| 3 images |" in page
    assert "Pairs: 5." in page


@pytest.mark.parametrize(
    "arguments", [["--quick"], ["fake"], ["-o", "fake.n=7"]], ids=["quick", "named", "changed"]
)
def test_only_a_whole_run_renews_the_results(fake, tmp_path, arguments):
    assert fake(*arguments) == 0
    assert not (tmp_path / "RESULTS.md").exists()
    assert fake(*arguments, "--out", str(tmp_path / "own.md")) == 0
    n = {"--quick": 1, "fake": 3, "-o": 7}[arguments[0]]
    assert f"| {n} images |" in (tmp_path / "own.md").read_text()


@pytest.mark.parametrize(("fault", "code"), [("interrupt", 130), ("bug", 1)])
def test_a_run_that_ends_early_leaves_a_whole_page(fake, tmp_path, fault, code, capsys):
    (tmp_path / "RESULTS.md").write_text("earlier")
    assert fake(fault=fault) == code
    page = (tmp_path / "RESULTS.md").read_text()
    if fault == "interrupt":
        assert page == "earlier"
    else:
        assert page.endswith("**Not measured:** ZeroDivisionError: in (a path)\n")
    assert sorted(path.name for path in tmp_path.glob("*.md")) == ["RESULTS.md"]
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "no benchmark 'no-such'"),
        (["--pairs", "4"], "at least 5"),
        (["--pairs", "0", "--quick"], "at least 1"),
        (["-o", "fake.k=3"], "NAME.SETTING=VALUE"),
        (["-o", "other.n=3"], "NAME.SETTING=VALUE"),
        (["-o", "fake.n"], "NAME.SETTING=VALUE"),
        (["-o", "fake.n=many"], "many"),
    ],
)
def test_usage_errors_are_one_line(fake, arguments, said, capsys):
    with pytest.raises(SystemExit) as leave:
        fake(*arguments)
    assert leave.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_says_what_it_compares_and_has_a_smoke_size(bench, name):
    module = getattr(bench, f"bench_{name}")
    assert type(module.BENCHMARK) is type(module.QUICK) and module.BENCHMARK != module.QUICK
    summary = module.BENCHMARK.__doc__.splitlines()[0]
    assert " against " in summary and summary.endswith(".")


def test_the_plain_strip_scores_as_ours(bench):
    from securitynet.backdoor.strip import superimpose

    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5)).eval()
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    bank = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    plain = bench.bench_strip.plain_scores(module, inputs, bank, torch.device("cpu"))
    mixed = torch.from_numpy(superimpose(inputs, bank)).reshape(-1, 8, 8, 3).permute(0, 3, 1, 2)
    with torch.inference_mode():
        p = module(mixed / 255).double().softmax(1).numpy().reshape(6, 4, 5)
    np.testing.assert_allclose(plain, (p * np.log(p)).sum(-1).mean(-1), atol=1e-5)


class Planted(nn.Module):
    """Class 2 fires on a white corner; the others on the mean of a quarter of the image."""

    def forward(self, inputs):
        quarters = nn.functional.avg_pool2d(inputs[:, 0], 4).flatten(1)
        bonus = nn.functional.relu(inputs[:, 0, -2:, -2:].mean((1, 2)) - 0.7)
        return 10 * quarters + 100 * bonus[:, None] * torch.eye(4)[2]


def test_the_plain_search_finds_a_planted_class(bench):
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.uniform(0, 0.3, (80, 1, 8, 8)).astype(np.float32))
    labels = rng.integers(0, 4, 80)
    search = bench.bench_neural_cleanse.Search(60, 8, 1e-2, 0.99)
    norms = [
        bench.bench_neural_cleanse.smallest_mask(Planted(), pixels, labels, k, search, rng)
        for k in range(4)
    ]
    assert int(np.argmin(norms)) == 2 and max(norms) < 64
    judged = bench.bench_neural_cleanse.judged
    assert judged(np.array(norms), np.array(norms), 2).is_equal
    assert not judged(np.array(norms), np.array(norms), 1).is_equal


def test_a_smoke_run_writes_the_page(bench, tmp_path, capsys):
    """One real benchmark, on images and a model made up on the spot."""
    out = tmp_path / "page.md"
    assert bench.run.main(["fast_inference", "--quick", "--pairs", "1", "--out", str(out)]) == 0
    page, said = out.read_text(), capsys.readouterr()
    assert page == said.out and "pair 1/1" in said.err
    assert "## fast_inference" in page and "SYNTHETIC images" in page and "smoke run" in page
    assert re.search(r"\*\*\d+\.\d\d\*\* \(\d+\.\d\d to \d+\.\d\d\) times as fast", page)
    assert re.search(r"label agreement (1\.0000|0\.999\d)", page)
    assert str(tmp_path) not in page and os.uname().nodename not in page


def test_the_command_lists_the_benchmarks():
    command = [sys.executable, str(FOLDER / "run.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in NAMES)


def answers(bench, *outcomes, version="a 1.0"):
    return bench.bench_scanners.Answers(list(outcomes), [0.002] * len(outcomes), version)


def test_scanners_are_compared_by_what_they_flag(bench):
    scanners, nowhere = bench.bench_scanners, Path("x")
    samples = [scanners.Sample(nowhere, True, True), scanners.Sample(nowhere, True)]
    samples += [scanners.Sample(nowhere, False)] * 3
    ours = answers(bench, "flagged", "flagged", "clean", "clean", "flagged")
    other = answers(bench, "flagged", "died", "skipped", "error", "clean", version="b 2.0")
    absent = answers(bench, version="")
    quality = scanners.judged(samples, {"ours": ours, "b --strict": other, "c": absent})
    assert not quality.is_equal  # a false alarm more
    header, *rows = quality.table
    assert rows[0] == ("a 1.0", "2/2", "1/1", "0", "0", "2/3", "1", "0", "2.0")
    assert rows[1] == ("b 2.0 --strict", "1/2", "1/1", "1", "0", "2/3", "0", "1", "2.0")
    assert rows[2][0].startswith("c: not installed") and {len(row) for row in rows} == {len(header)}
    better = answers(bench, "flagged", "flagged", "clean", "clean", "clean")
    assert scanners.judged(samples, {"ours": better, "b": other}).is_equal
    assert not scanners.judged(samples, {"ours": other, "b": better}).is_equal


def test_our_scanner_is_asked_in_a_process_of_its_own(bench, tmp_path):
    scanners = bench.bench_scanners
    files = {"good.pkl": b"\x80\x02}.", "evil.pkl": b"\x80\x02cos\nsystem\n(U\x01xtR."}
    samples = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        samples.append(scanners.Sample(tmp_path / name, name == "evil.pkl"))
    samples.append(scanners.Sample(tmp_path / "absent.pkl", True))
    said = scanners.answers(Path(sys.executable), "ours", samples)
    assert said.outcomes == ["clean", "flagged", "error"] and len(said.seconds) == 3
    assert said.version.startswith("securitynet ")
    absent = scanners.answers(tmp_path / "no-python", "picklescan", samples)
    assert absent == scanners.Answers()


def test_a_scanner_that_a_file_ends_goes_on_with_the_next(bench, tmp_path, monkeypatch):
    scanners = bench.bench_scanners
    (tmp_path / "scanning.py").write_text(
        "import json, sys\n"
        "print(json.dumps({'version': 'fake 1'}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    if 'bomb' in line: sys.exit(9)\n"
        "    print(json.dumps({'outcome': 'error: X', 'seconds': 0.1}), flush=True)\n"
    )
    monkeypatch.setattr(scanners, "HERE", tmp_path)
    samples = [scanners.Sample(Path(name), True) for name in ("a", "bomb", "b", "bomb2")]
    said = scanners.answers(Path(sys.executable), "fake", samples)
    assert said.outcomes == ["error", "died", "error", "died"]


def test_more_figures_follow_the_ratio(bench):
    result = Sides(bench, (1.0,), (2.0,)).measure(bench, 1)
    more = bench.pairs.Quality("q", True, (("head", "n"), ("row", "1")))
    page = bench.page.section(
        bench.page.Outcome("x", "A against B.", {}, replace(result, quality=more))
    )
    assert page.endswith("| head | n |\n| --- | --- |\n| row | 1 |")


def test_the_scanners_are_pinned_by_hash():
    lines = (FOLDER / "requirements-peers.lock").read_text().splitlines()
    pinned = [line.split("==")[0] for line in lines if line and line[0].isalpha()]
    assert {"picklescan", "modelscan", "fickling"} <= set(pinned)
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
    assert not any("index" in line or "://" in line for line in lines)


def test_attacks_of_one_pass_are_those_that_the_harness_runs(bench):
    names = [attack.name for attack in bench.one_pass.attacks()]
    assert len(names) == len(set(names)) >= 12
    assert {name.split()[0] for name in names} >= {
        "mia.loss",
        "mia.mlp",
        "mia.rmia",
        "mia.quantile",
    }
    assert not {"mia.label_noise", "mia.lira_online"} & {name.split()[0] for name in names}
    light = [attack.name for attack in bench.one_pass.unfitted()]
    assert len(light) >= 12 and {"mia.rmia", "mia.lira_offline", "mia.class_pvalue"} <= set(light)
    assert {name.split()[0] for name in set(names) - set(light)} == set(bench.one_pass.FITTED)


def test_all_attacks_of_one_pass_score_every_sample(bench, monkeypatch):
    """One pass, and the loss attack is the bare pass's loss."""
    ground = bench.ground.Ground(is_quick=True)
    subject = bench.ground._made_up(ground._effort)
    audit = bench.bench_score_attacks.first(subject.audit, 300)
    target = bench.ground.uncached(subject.target)
    passed, run = [], target.engine.run
    monkeypatch.setattr(target.engine, "run", lambda load, n: passed.append(n) or run(load, n))
    scores = bench.one_pass.run_all(target, audit, bench.one_pass.stand_ins(audit, 10))
    assert all(len(values) == 300 for values in scores.values()) and passed == [300]
    bare = bench.bench_score_attacks.bare_pass(target.engine, audit.data.audit)
    judged = bench.bench_score_attacks.judged(
        scores, bare, audit.data.audit.labels, audit.is_member
    )
    assert judged.is_equal and "all finite" in judged.figures
    scores["mia.entropy"][0] = np.nan
    assert not bench.bench_score_attacks.judged(
        scores, bare, audit.data.audit.labels, audit.is_member
    ).is_equal


def test_the_toolbox_learns_from_a_half_of_either_side(bench):
    rng = np.random.default_rng(0)
    is_member = rng.random(101) < 0.5
    known = np.zeros(101, bool)
    for side in (True, False):
        known[np.flatnonzero(is_member == side)[::2]] = True
    samples = bench.art_attacks.Samples(
        np.zeros((101, 3, 2, 2), np.float32), np.zeros(101, np.int64), is_member, known
    )
    assert bench.art_attacks.scored("rule", samples).all()
    assert not (bench.art_attacks.scored("nn", samples) & known).any()
    ours = {"mia.modified_entropy (per_class False)": is_member + rng.normal(0, 1, 101)}
    judge = bench.bench_membership_art.judged
    its = rng.normal(0, 1, (~known).sum())
    assert judge(ours, its, "nn", samples).is_equal
    told = is_member[~known] + rng.normal(0, 0.1, (~known).sum())
    quality = judge(ours, told, "nn", samples)
    assert not quality.is_equal and "the other's 1.0000" in quality.figures


def test_a_missing_toolbox_is_named(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.art_attacks, "PEERS", tmp_path)
    monkeypatch.setitem(sys.modules, "art", None)
    with pytest.raises(ResourceError, match="adversarial-robustness-toolbox is not installed"):
        bench.art_attacks.toolbox()
