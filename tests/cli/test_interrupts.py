"""Interrupted, killed, resumed: real processes and signals, nothing lost, nothing done twice."""

import json
import os
import re
import shlex
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

SEEDS = ("--seeds", "0-2")


@pytest.fixture
def store():
    return Path(os.environ["SECURITYNET_STORE"])


def records(store):
    """Return path -> (time of change, content) of every record."""
    found = sorted(store.glob("results/*/*.json"))
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def wait_for(condition, process=None, seconds=60):
    """Wait until a condition holds; the process must not end before."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def press_ctrl_c(process):
    """Interrupt the whole group, as a terminal does; return (code, stdout, stderr)."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def said(err):
    """Return the lines that are no progress, which slow machines report now and then."""
    return [line for line in err.splitlines() if not re.match(r" *\d+% ", line)]


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_finished_and_names_the_command_that_goes_on(
    start, shell, slow, store, material, workers
):
    words = ["run", "mia.slow", *material.cards, "--data", material.images, *SEEDS, "--json"]
    process = start(*words, "-j", workers)
    wait_for(lambda: len(records(store)) >= 2, process)
    code, out, err = press_ctrl_c(process)
    assert (code, out) == (130, "")
    assert len(said(err)) == 1 and "Traceback" not in err
    kept, diary = records(store), slow.entries()
    assert 2 <= len(kept) < 6
    assert not list(store.rglob("*.tmp"))
    wait_for(lambda: not any(is_running(int(pid)) for pid, *_ in diary), seconds=5)

    program, *again = shlex.split(err.split("continue with: ")[1])
    assert (program, again) == ("securitynet", [*words, "-j", str(workers)])
    done = shell(*again)
    assert done.code == 0, done.err
    assert Counter((r["model"], r["seed"], r["status"]) for r in done.json) == {
        (f"local/net{net}", seed, "ok"): 1 for net in (0, 1) for seed in (0, 1, 2)
    }
    assert {path: records(store)[path] for path in kept} == kept, "a finished record was touched"
    calls = Counter((model, seed) for _, model, seed in slow.entries()[len(diary) :])
    finished = {
        (record["model"].split("/")[1], str(record["seed"]))
        for record in (json.loads(content) for _, content in kept.values())
    }
    assert set(calls.values()) == {1}
    assert set(calls).isdisjoint(finished) and len(calls) + len(finished) == 6


def test_ctrl_c_while_workers_start_is_one_line_too(start, slow, store, material):
    words = ["run", "mia.slow", *material.cards, "--data", material.images, "-j", "2"]
    process = start(*words)
    wait_for(lambda: list(store.glob("plans/*.json")), process)
    time.sleep(0.15)
    code, _, err = press_ctrl_c(process)
    assert code == 130
    assert said(err)[0].startswith("securitynet: interrupted") and len(said(err)) == 1


def test_a_killed_worker_costs_one_retry_and_changes_no_figure(
    start, shell, slow, store, material, tmp_path
):
    words = ["run", "mia.slow,mia.loss,mia.confidence", *material.cards]
    words += ["--data", material.images, *SEEDS, "--json"]
    process = start(*words, "-j", 2)
    wait_for(lambda: len(slow.entries()) >= 4, process)
    victim, model, seed = slow.entries()[-1]
    os.kill(int(victim), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    together = {record["key"]: record for record in json.loads(out)}
    calls = Counter(entry[1:] for entry in slow.entries())
    assert calls.pop((model, seed)) == 2 and set(calls.values()) == {1}

    alone = shell(
        *words, "--store", tmp_path / "alone", SECURITYNET_CACHE=str(tmp_path / "fresh-cache")
    )
    assert {r["key"] for r in alone.json} == set(together) and len(together) == 10
    for record in alone.json:
        other = together[record["key"]]
        assert (record["status"], other["status"]) == ("ok", "ok")
        for name, measure in record["measures"].items():
            assert other["measures"][name] == pytest.approx(measure, abs=1e-6), name


@pytest.mark.long
def test_workers_of_a_killed_driver_end_and_record_no_failure(start, slow, store, material):
    words = ["run", "mia.slow", *material.cards, "--data", material.images, *SEEDS, "-j", 2]
    process = start(*words)
    wait_for(lambda: len({pid for pid, *_ in slow.entries()}) == 2, process)
    process.kill()
    process.wait()
    workers = {int(pid) for pid, *_ in slow.entries()}
    wait_for(lambda: not any(map(is_running, workers)), seconds=10)
    assert {json.loads(content)["status"] for _, content in records(store).values()} <= {"ok"}
    assert len(slow.entries()) < 6, "they went on without a driver"
