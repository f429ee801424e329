"""Every file has a disposable process of its own, with limits; the one that makes them stays."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError, UnsafeFileError
from securitynet.weights import child, convert, disposal, nursery
from securitynet.weights.door import open_checkpoint


def opened(path):
    return open_checkpoint(Weights(path=str(path)), folder=None, where="card")


def write(path, value=0.0):
    torch.save({"w": torch.full((3,), value)}, path)
    return path


def pid_of_nursery():
    return disposal._running[os.getpid()].pid


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Return a function that has the nursery's own code run another child than ``open_one``."""
    reader, writer = os.pipe()
    monkeypatch.setattr(nursery, "REQUESTS", reader)

    def served(task, seconds=20.0):
        monkeypatch.setattr(child, "open_one", lambda **_: task())
        place = tmp_path / "made"
        return nursery._serve(seconds=seconds, source=str(tmp_path), destination=str(place))

    yield served
    os.close(reader)
    os.close(writer)


def limits():
    child.limit(1000)
    found = {
        "bytes": resource.getrlimit(resource.RLIMIT_FSIZE),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU)[1],
        "processes": resource.getrlimit(resource.RLIMIT_NPROC)[1],
        "files": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        "input": os.read(0, 1).decode(),
        "folder": str(Path.cwd()),
        "session": os.getsid(0) == os.getpid(),
    }
    print(json.dumps(found), flush=True)
    return 0


def test_a_child_has_limits_and_nothing_of_its_parent(served, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    answer = served(limits)
    assert (answer["code"], answer["is_late"]) == (0, False)
    assert json.loads(answer["said"]) == {
        "bytes": [8000 + 2**20] * 2, "cpu": 300, "processes": 0, "files": ["0", "1", "2", "3"],
        "input": "", "folder": str(tmp_path), "session": True,
    }  # fmt: skip
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


def reach_the_network():
    child.limit(1000)
    print(sorted(name for _, name in socket.if_nameindex()), flush=True)
    return 0


@pytest.mark.skipif(os.geteuid() != 0, reason="kernels may refuse it to others than root")
def test_a_child_has_no_network(served):
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("this kernel or container refuses network namespaces")
    assert "eth" not in served(reach_the_network)["said"]


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def raise_something():
    raise NotImplementedError("odd")


def say_too_much():
    print("x" * 10 * nursery.MAX_SAID_BYTES, flush=True)
    time.sleep(60)


def sleep():
    time.sleep(60)


def test_a_crash_is_reported(served):
    assert served(crash) == {"said": "", "code": -signal.SIGSEGV, "is_late": False}


def test_what_nobody_expected_is_reported(served):
    answer = served(raise_something)
    assert answer["code"] == 70 and answer["said"].endswith("NotImplementedError: odd\n")


@pytest.mark.parametrize(("task", "is_late"), [(sleep, True), (say_too_much, False)])
def test_a_child_that_does_not_end_is_ended(task, is_late, served):
    begin = time.monotonic()
    answer = served(task, seconds=0.5)
    assert time.monotonic() - begin < 10
    assert (answer["code"], answer["is_late"]) == (-signal.SIGKILL, is_late)


def leave_one_behind():
    if os.fork() == 0:
        time.sleep(60)
    else:
        print(os.getpid(), flush=True)
    return 0


def test_what_a_child_started_ends_with_it(served):
    begin = time.monotonic()
    group = int(served(leave_one_behind, seconds=1.0)["said"])
    assert time.monotonic() - begin < 10
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(group, 0)
            time.sleep(0.1)


def test_files_share_a_nursery_but_no_process(tmp_path):
    first = opened(write(tmp_path / "one.pt", 1.0))
    process = pid_of_nursery()
    second = opened(write(tmp_path / "two.pt", 2.0))
    assert pid_of_nursery() == process
    assert first.path != second.path and second.notes == ()


def test_a_nursery_that_was_killed_is_replaced(tmp_path):
    opened(write(tmp_path / "one.pt", 3.0))
    process = pid_of_nursery()
    os.kill(process, signal.SIGKILL)
    opened(write(tmp_path / "two.pt", 4.0))
    assert pid_of_nursery() != process


def test_a_nursery_that_cannot_start_says_why(tmp_path, monkeypatch):
    disposal._stop()
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no torch here')")
    monkeypatch.setattr(disposal.nursery, "__file__", str(script))
    with pytest.raises(ResourceError, match="ended with 1: no torch here"):
        opened(write(tmp_path / "one.pt", 5.0))


def test_a_file_that_takes_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "TIMEOUT_SECONDS", 0)
    with pytest.raises(UnsafeFileError, match="opening took over 0 s"):
        opened(write(tmp_path / "one.pt", 6.0))


def test_a_child_that_dies_is_an_error_of_its_file(monkeypatch, tmp_path):
    monkeypatch.setattr(
        convert, "ask", lambda *_: {"said": "Killed\n", "code": -9, "is_late": False}
    )
    with pytest.raises(IntegrityError, match="ended with -9: Killed"):
        opened(write(tmp_path / "one.pt", 7.0))


@pytest.mark.parametrize("end", ["sys.exit()", "os.kill(os.getpid(), 9)"])
def test_the_nursery_ends_with_its_parent(end, tmp_path):
    code = (
        "import os, sys; from securitynet.catalogue.cards import Weights\n"
        "from securitynet.weights import disposal\n"
        "from securitynet.weights.door import open_checkpoint\n"
        f"open_checkpoint(Weights(path={str(write(tmp_path / 'x.pt', 8.0))!r}), folder=None, "
        "where='card')\n"
        f"print(disposal._running[os.getpid()].pid, flush=True)\n{end}"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stderr == ""
    process = int(ended.stdout)
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it is still there")


def test_an_idle_nursery_ends(tmp_path):
    code = (
        "import sys; from securitynet.weights import nursery\n"
        "nursery.IDLE_SECONDS = 0.1; sys.argv[1:] = ['[]']; nursery.CHILD = 'json'\n"
        "nursery.importlib.import_module = lambda name: None\n"
        "sys.exit(nursery.main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=20) == 0
