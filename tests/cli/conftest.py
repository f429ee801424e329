"""A made-up image folder, a linear classifier with its card, and two ways to give a command."""

import contextlib
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

N_CLASSES, SIZE = 3, 6
ENTRY = "from securitynet.cli.app import main; main()"


def write_images(folder, *, n_classes=N_CLASSES, n=20, seed=0):
    """One bright band a class, in noise, as ``train/CLASS/*.png`` and ``test/CLASS/*.png``."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for label in range(n_classes):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 160, (SIZE, SIZE))
                pixels[2 * label : 2 * label + 2] += 60
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    return folder


def write_net(folder, *, seed=0, **changes):
    """A linear classifier that looks at the bands, each seed another one; returns its card."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.1, (N_CLASSES, SIZE, SIZE))
    for label in range(N_CLASSES):
        weight[label, 2 * label : 2 * label + 2] += 1
    tensors = {
        "1.weight": weight.reshape(N_CLASSES, -1).astype(np.float32),
        "1.bias": np.zeros(N_CLASSES, dtype=np.float32),
    }
    save_file(tensors, folder / "net.safetensors")
    card = {
        "name": f"net{seed}",
        "dataset": "bands",
        "num_classes": N_CLASSES,
        "architecture": ["flatten", {"linear": [SIZE * SIZE, N_CLASSES]}],
        "input": {"channels": 1, "height": SIZE, "width": SIZE},
        "weights": {"path": "net.safetensors"},
    } | changes
    path = folder / "card.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Material:
    """Folder of images and cards of classifiers of them."""

    images: str
    cards: list[str]


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    cards = [str(write_net(folder / f"net{seed}", seed=seed)) for seed in range(2)]
    return Material(str(write_images(folder / "images")), cards)


@pytest.fixture
def net(tmp_path):
    """Make one more classifier, with changes to its card; returns the card's path."""

    def make(**changes):
        folder = tmp_path / "nets" / str(len(list(tmp_path.glob("nets/*"))))
        return write_net(folder, seed=7, **changes)

    return make


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def cli(capsys):
    """Give a command in this process."""
    from securitynet.cli.app import run_command

    def run(*arguments):
        capsys.readouterr()
        code = run_command([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    yield run
    logging.getLogger().handlers.clear()  # they hold the captured stderr


@pytest.fixture
def filled(cli, material, tmp_path):
    """Return a store with the records of two methods on one model."""
    store = tmp_path / "filled"
    words = ("run", "mia.loss,mia.entropy", material.cards[0], "--data", material.images)
    assert cli(*words, "--store", store).code == 0
    return store


def command(*arguments):
    """Return the words that give a command in a process of its own."""
    return [sys.executable, "-c", ENTRY, *map(str, arguments)]


@pytest.fixture
def shell():
    """Give a command in a process of its own."""

    def run(*arguments, **environment):
        done = subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | environment,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def terminal():
    """Give a command on a terminal of so many columns; return (code, what was shown, stdout).

    With ``is_piped`` only stderr is the terminal, and stdout comes back apart.
    """

    def run(*arguments, columns=80, is_piped=False, **environment):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, columns))
        plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
        process = subprocess.Popen(
            command(*arguments),
            stdin=theirs,
            stdout=subprocess.PIPE if is_piped else theirs,
            stderr=theirs,
            env=plain | {"TERM": "xterm-256color"} | environment,
        )
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the kernel's way to say that nobody writes any more
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        out = process.communicate(timeout=60)[0] if is_piped else b""
        return process.wait(60), shown.decode().replace("\r\n", "\n"), (out or b"").decode()

    return run


@pytest.fixture
def start():
    """Start a command, to be interrupted or killed; whatever is left of it is ended."""
    running = []

    def begin(*arguments, **environment):
        process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


SLOW = """
import os, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import securitynet as sn

@sn.method("mia.slow", access=sn.Access.SCORES, paper="none", cost="time", soundness="none",
           variants=(), is_seeded=True)
@dataclass(frozen=True, kw_only=True)
class Slow:
    '''A membership attack that takes its time and keeps a diary.'''
    seconds: float = sn.option(0.5, "How long.", low=0)

    def __call__(self, target, data, context):
        with open(os.environ["DIARY"], "a") as diary:
            diary.write(f"{os.getpid()} {target.card.name} {context.seed}\\n")
        for step in range(10):
            time.sleep(self.seconds / 10)
            context.progress(step / 10, "waiting")
        own = target.scores(data.audit)[np.arange(len(data.audit)), data.audit.labels]
        return sn.MembershipEvidence(own + context.rng.normal(0, 0.01, len(own)))
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Install a slow method for processes that are started; return the file of its diary."""
    site = tmp_path / "site"
    (site / "slow-1.0.dist-info").mkdir(parents=True)
    (site / "slow.py").write_text(SLOW, encoding="utf-8")
    for name, text in {
        "METADATA": "Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n",
        "entry_points.txt": "[securitynet.methods]\nslow = slow\n",
    }.items():
        (site / "slow-1.0.dist-info" / name).write_text(text, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *([before] if before else [])]))
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    return Diary(tmp_path / "diary")


@dataclass(frozen=True)
class Diary:
    """What the slow method did, one line a call."""

    path: Path

    def entries(self):
        """Return (pid, model, seed) of every call so far."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [tuple(line.split()) for line in text.splitlines()]
