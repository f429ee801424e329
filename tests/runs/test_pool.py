"""Groups of jobs in this process and in worker processes that die: every job becomes a record."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from securitynet.catalogue.cards import load_card
from securitynet.errors import IntegrityError, ResourceError, SecurityNetError
from securitynet.runs import pool
from securitynet.runs.evaluate import plan
from securitynet.runs.plan import Settings, choose_methods
from securitynet.runs.pool import run_groups
from securitynet.runs.store import Store

SIZE = 4


@pytest.fixture(scope="session")
def images(dark_and_bright):
    return dark_and_bright(side=SIZE, n=15)


@pytest.fixture
def make_card(tmp_path):
    """Make a classifier of dark and bright, with changes to its card."""

    def make(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        weight = np.array([[-1.0] * SIZE**2, [1.0] * SIZE**2], dtype=np.float32)
        weight += np.float32(0.01 * len(list(tmp_path.iterdir())))
        bias = np.array([16.0, 0.0], dtype=np.float32)
        save_file({"1.weight": weight, "1.bias": bias}, folder / "net.safetensors")
        card = {
            "name": name,
            "dataset": "shades",
            "num_classes": 2,
            "architecture": ["flatten", {"linear": [SIZE**2, 2]}],
            "input": {"channels": 1, "height": SIZE, "width": SIZE},
            "weights": {"path": "net.safetensors"},
        }
        (folder / "card.json").write_text(json.dumps(card | changes), encoding="utf-8")
        return load_card(folder / "card.json")

    return make


@pytest.fixture
def groups_of(images, tmp_path):
    """Plan two methods on cards."""

    def groups(*cards, trust=None, methods="mia.loss,mia.entropy"):
        settings = Settings(data=str(images), cache=tmp_path / "outputs", trust=trust)
        store = Store(tmp_path / "store")
        return plan(choose_methods([methods]), cards, settings, store).groups

    return groups


class Ear:
    """Hears what a run tells."""

    def __init__(self):
        self.shares, self.records = [], []

    def progress(self, share, what):
        self.shares.append(share)

    def done(self, record):
        self.records.append(record)

    def listen(self):
        return {"progress": self.progress, "done": self.done}


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_every_job_is_kept_and_told_once(groups_of, make_card, tmp_path, n_workers):
    groups = groups_of(make_card("a"), make_card("b"), make_card("c"))
    store, ear = Store(tmp_path / "store"), Ear()
    run_groups(groups, store, n_workers=n_workers, **ear.listen())
    wanted = sorted(job.key for group in groups for job in group.jobs)
    assert len(wanted) == 6
    assert sorted(record.key for record in ear.records) == wanted == list(store.keys())
    assert {record.status for record in ear.records} == {"ok"}
    assert max(ear.shares) == pytest.approx(1.0) and min(ear.shares) >= 0


def test_nothing_to_do_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_run_here", None)
    monkeypatch.setattr(pool, "_Pool", None)
    run_groups([], Store(tmp_path), n_workers=4, **Ear().listen())


DEADLY = "import os, torch\n\ndef build():\n    os._exit(3)\n"


def test_a_model_that_kills_workers_fails_alone(groups_of, make_card, tmp_path, capfd):
    deadly = make_card("deadly", architecture="net.py:build")
    code = tmp_path / "deadly" / "net.py"
    code.write_text(DEADLY, encoding="utf-8")
    groups = groups_of(deadly, make_card("a"), make_card("b"), trust=code)
    store, ear = Store(tmp_path / "store"), Ear()
    run_groups(groups, store, n_workers=2, **ear.listen())
    by_model = {}
    for record in store.records():
        by_model.setdefault(record.model, []).append(record)
    assert {model: {r.status for r in records} for model, records in by_model.items()} == {
        "local/deadly": {"failed"}, "local/a": {"ok"}, "local/b": {"ok"},
    }  # fmt: skip
    for record in by_model["local/deadly"]:
        assert record.flags == ("worker-died", "unverified-bytes")
        assert "died 2 times (exit code 3)" in record.error
    assert sorted(r.key for r in ear.records) == list(store.keys())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_store_that_cannot_be_written_stops_the_run_with_its_reason(
    groups_of, make_card, tmp_path, capfd, n_workers
):
    groups = groups_of(make_card("a"), make_card("b"))
    (tmp_path / "taken").touch()
    with pytest.raises(ResourceError, match="cannot write"):
        run_groups(groups, Store(tmp_path / "taken"), n_workers=n_workers, **Ear().listen())
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.long
def test_a_worker_that_is_gone_before_it_is_given_work_is_replaced(
    groups_of, make_card, tmp_path, monkeypatch
):
    """Its pipe is broken when work is handed out: to listen shows that it died."""
    groups = groups_of(make_card("a"), make_card("b"))
    hand_out, killed = pool._Pool._hand_out, []

    def kill_first(self, worker):
        if not killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.join()
        hand_out(self, worker)

    monkeypatch.setattr(pool._Pool, "_hand_out", kill_first)
    store = Store(tmp_path / "store")
    run_groups(groups, store, n_workers=2, **Ear().listen())
    assert {record.status for record in store.records()} == {"ok"}
    assert len(list(store.keys())) == 4


def test_an_error_crosses_from_worker_to_driver_whole():
    ours, theirs = pool.multiprocessing.get_context("spawn").Pipe()
    error = IntegrityError("damaged", where="here", hint="delete it", flags=["door"])
    pool._tell(theirs, "error", error)
    kind, heard = ours.recv()
    assert kind == "error" and isinstance(heard, IntegrityError)
    assert (str(heard), heard.flags) == (str(error), ("door",))
    ours.close()
    with pytest.raises(SystemExit):  # which no job's `except Exception` takes for a failure
        pool._tell(theirs, "progress", (0.5, ""))


@pytest.mark.long
def test_workers_may_be_started_beside_other_threads(groups_of, make_card, tmp_path):
    groups = groups_of(make_card("a"), make_card("b"))
    store, errors = Store(tmp_path / "store"), []

    def work():
        try:
            run_groups(groups, store, n_workers=2, **Ear().listen())
        except SecurityNetError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(120)
    assert not errors and len(list(store.keys())) == 4


def test_what_is_started_uninterrupted_never_hears_ctrl_c():
    with pool._uninterrupted():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        os.kill(child.pid, signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
    finally:
        child.kill()
        child.wait()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    still = threading.Event()
    other = threading.Thread(target=still.wait)  # one that has not masked it: it may take it
    other.start()
    reached = False
    try:
        with pytest.raises(KeyboardInterrupt), pool._uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            reached = True
    finally:
        still.set()
        other.join()
    assert reached, "it is put off, not lost"
