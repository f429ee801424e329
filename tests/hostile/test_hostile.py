"""Hostile files through the real scan, get and load: all refused with the evidence, nothing runs."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import hostile_corpus as corpus
import pytest
from typer.testing import CliRunner

import securitynet as sn
from securitynet.catalogue.cards import parse_card
from securitynet.cli.app import app
from securitynet.errors import IntegrityError, UnsafeFileError
from securitynet.weights.findings import RULES
from securitynet.weights.inspect import scan

NAMES = [case.id for case in corpus.cases(corpus.Canary(Path("canary"), 9))]
MAX_SECONDS = 2.0
MAX_BYTES = 512 * 2**20


@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def canary(tmp_path_factory, listener):
    """Return the canary of the whole corpus; afterwards it must not have fired."""
    found = corpus.Canary(tmp_path_factory.mktemp("canary") / "fired", listener.getsockname()[1])
    yield found
    assert fired(found, listener) == []


def fired(canary, listener):
    """Return which canaries have fired."""
    found = ["file"] * canary.file.exists() + ["variable"] * (canary.variable in os.environ)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return found
    return [*found, "socket"]


@pytest.fixture(scope="module")
def files(canary, tmp_path_factory):
    """Write the corpus; return name -> path."""
    found = {}
    for i, case in enumerate(corpus.cases(canary)):
        path = tmp_path_factory.getbasetemp() / "hostile" / str(i) / case.name.replace("/", "_")
        path.parent.mkdir(parents=True)
        path.write_bytes(case.content)
        found[case.id] = path
    return found


def card_of(path):
    return parse_card(
        {
            "name": "hostile", "dataset": "own", "num_classes": 3, "architecture": "torchvision/resnet18",
            "input": {"height": 32, "width": 32, "channels": 3}, "weights": {"path": path.name},
        },
        where="card", folder=path.parent,
    )  # fmt: skip


def test_the_corpus_is_large_and_has_no_name_twice():
    assert len(NAMES) >= 200
    assert len(set(NAMES)) == len(NAMES)
    assert min(Counter(name.partition(":")[0] for name in NAMES).values()) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_refused_everywhere(name, files, canary, listener):
    path = files[name]
    began = time.process_time()
    report = scan(path)
    assert time.process_time() - began <= MAX_SECONDS
    assert report.verdict in ("UNSAFE", "UNDECIDED")
    assert report.findings
    assert all(
        item.rule in RULES and item.what and str(item).isprintable() for item in report.findings
    )
    with pytest.raises((UnsafeFileError, IntegrityError)) as refused:
        sn.load(card_of(path))
    assert any(item.what in str(refused.value) for item in report.findings) or report.format is None
    assert fired(canary, listener) == []


def test_get_refuses_all_of_them(files, canary, tmp_path):
    """One command with all cards: each refused, with the evidence of the scan."""
    cards = []
    for i, path in enumerate(files.values()):
        card = card_of(path).to_json() | {"id": f"local/hostile{i}"}
        card["weights"]["path"] = str(path)
        (tmp_path / f"{i}.json").write_text(json.dumps(card))
        cards.append(str(tmp_path / f"{i}.json"))
    done = CliRunner().invoke(app, ["get", "-q", "--json", *cards])
    rows = json.loads(done.stdout)
    assert done.exit_code != 0
    assert len(rows) == len(files)
    assert {row["status"] for row in rows} == {"refused"}
    assert not [row for row in rows if not row["error"]]
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


MEASURED = """
import sys
from pathlib import Path
from securitynet.cli.app import main
try:
    main()
finally:
    peak = [s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM")]
    sys.stderr.write(peak[0].split()[1])
"""


def test_one_process_survives_the_whole_corpus(files):
    """The real command over the whole folder, with its peak of memory as the kernel has it."""
    folder = next(iter(files.values())).parents[1]
    command = [sys.executable, "-c", MEASURED, "scan", "-q", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    reports = json.loads(done.stdout)
    assert done.returncode == 1
    assert len(reports) == len(files)
    assert "SAFE" not in {report["verdict"] for report in reports}
    assert int(done.stderr) * 1024 <= MAX_BYTES


def opened_carelessly(content, canary):
    """Run a pickle in a process of its own, as a careless loader would; say what fired."""
    code = (
        "import os, pickle, sys; pickle.load(sys.stdin.buffer); print(os.environ.get(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, canary.variable]
    return subprocess.run(command, input=content, capture_output=True).stdout.decode().split()


def test_the_canaries_fire_where_files_are_opened_carelessly(tmp_path, listener):
    """The control: each kind of payload does what it is said to do."""
    canary = corpus.Canary(tmp_path / "fired", listener.getsockname()[1])
    for group, module, name in (("shell", "os", "system"), ("file", "builtins", "open"),
                                ("code", "builtins", "exec")):  # fmt: skip
        body = corpus.gadgets.payload(group, module, name, canary)
        opened_carelessly(corpus.gadgets.whole(body), canary)
        assert fired(canary, listener) == ["file"]
        canary.file.unlink()
    for _, body in corpus.gadgets.chains(canary):
        opened_carelessly(corpus.gadgets.whole(body), canary)
    assert fired(canary, listener) == ["file"]
    canary.file.unlink()
    body = corpus.gadgets.payload("socket", "socket", "create_connection", canary)
    opened_carelessly(corpus.gadgets.whole(body), canary)
    assert fired(canary, listener) == ["socket"]
    setting = f"__import__('os').environ[{canary.variable!r}] = '1'"
    body = corpus.gadgets.called("builtins", "exec", setting)
    assert opened_carelessly(corpus.gadgets.whole(body), canary) == ["1"]
