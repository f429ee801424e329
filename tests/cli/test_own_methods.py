"""Methods in files of one's own: begun by `add method`, run by name of the file, by workers too."""

import json
import os
import subprocess
import sys

import pytest

from securitynet import registry

METHOD = """
from dataclasses import dataclass
import numpy as np
import securitynet as sn

@sn.method("mia.{name}", access=sn.Access.SCORES, paper="none", cost="none", soundness="none")
@dataclass(frozen=True, kw_only=True)
class Own:
    '''The posterior of the true class to a power.'''
    power: float = sn.option({power}, "Exponent.", low=0.1)

    def __call__(self, target, data, context):
        scores = target.scores(data.audit)
        return sn.MembershipEvidence(
            scores[np.arange(len(scores)), data.audit.labels] ** self.power
        )
"""


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Forget what a test registers."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry.methods()))
    monkeypatch.setattr(registry, "_SOURCES", {})
    monkeypatch.setenv(registry.FILES, "")


@pytest.fixture
def write(tmp_path):
    def write(text=METHOD, name="own", power=1.0):
        path = tmp_path / f"{name}.py"
        path.write_text(text.replace("{name}", name).replace("{power}", str(power)))
        return path

    return write


def test_what_is_begun_runs_is_tidy_and_passes_its_own_test(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mia.my_margin", "steal.line", "backdoor.sure"):
        done = cli("add", "method", name)
        assert done.code == 0 and "docs/adding-a-method.md" in done.err
    call = lambda *words: subprocess.run(  # noqa: E731
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=300, check=False
    )
    checked = call(
        "ruff", "check", "--isolated", "--select", "E,F,I,B", "--line-length", "100", "."
    )
    assert checked.returncode == 0, checked.stdout
    tested = call("pytest", "-q", "-p", "no:cacheprovider", ".")
    assert tested.returncode == 0 and "3 passed" in tested.stdout, tested.stdout
    again = cli("add", "method", "mia.my_margin")
    assert again.code == 2 and "my_margin.py, test_my_margin.py is there already" in again.err


@pytest.mark.parametrize("name", ["margin", "mia.", "mia.Margin", "other.x", "mia.a b", "mia.loss"])
def test_a_name_that_is_none_or_taken_is_refused(name, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("add", "method", name)
    assert done.code == 2 and repr(name) in done.err and not list(tmp_path.iterdir())


def test_a_file_is_run_by_its_name_and_its_options_are_known(cli, write, material):
    words = ("run", write(), material.cards[0], "--data", material.images, "--json")
    (record,) = cli(*words, "-o", "mia.own.power=2").json
    assert (record["method"], record["config"], record["status"]) == (
        "mia.own",
        {"power": 2.0},
        "ok",
    )
    assert len(record["conditions"]["method_file"]) == 64


def test_a_file_that_has_changed_is_run_again(cli, write, material):
    words = ("run", "FILE", material.cards[0], "--data", material.images, "--json")
    keys = []
    for text in (METHOD, METHOD, METHOD + "# changed"):
        registry._METHODS.pop("mia.own", None)
        os.environ[registry.FILES] = ""
        path = write(text)
        (record,) = cli(*words[:1], path, *words[2:]).json
        keys.append(record["key"])
    assert keys[0] == keys[1] != keys[2]


def test_workers_and_other_commands_know_the_file(shell, write, material, tmp_path):
    path, store = write(), tmp_path / "store"
    both = shell(
        "run", f"{path},mia.loss", *material.cards, "--data", material.images, "-j", 2, "--json",
        "--store", store,
    )  # fmt: skip
    assert both.code == 0, both.err
    assert [r["method"] for r in json.loads(both.out)].count("mia.own") == 2
    listed = shell("list", "methods", "--json", **{registry.FILES: str(path)})
    assert "mia.own" in {row["name"] for row in listed.json}
    assert "mia.own" in shell("report", "--store", store).out, "its records need no file"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import", "SyntaxError"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("x = 1", "registers no method"),
        (
            METHOD.replace("{name}", "loss"),
            "mia.loss: already registered by securitynet.membership.loss",
        ),
    ],
)
def test_a_file_that_is_no_method_is_one_line(text, said, cli, write, material):
    before = registry.get_method("mia.loss")
    done = cli("run", write(text), material.cards[0], "--data", material.images)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert "own.py" in done.err and registry.get_method("mia.loss") is before
    assert not os.environ[registry.FILES]


def test_a_file_that_is_not_there_is_one_line(cli, material, tmp_path):
    done = cli("run", tmp_path / "none.py", material.cards[0])
    assert done.code == 2 and "no such Python file of methods" in done.err
