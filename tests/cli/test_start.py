"""What is quick stays quick: nothing is imported before it is needed. How processes end."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "jinja2",
    "PIL", "numpy", "click", "rich.console", "multiprocessing",
}  # fmt: skip
MAIN = "from securitynet.cli.app import main; main()"
PROBE = """
import atexit, sys
def tell():
    sys.stderr.write("\\nMODULES " + " ".join(sys.modules))
atexit.register(tell)
from securitynet.cli.app import main
main()
"""


def modules(*arguments):
    """Give a command in a process of its own; return its outcome and what it had imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.rsplit("MODULES ", 1)[1].split())


@pytest.mark.parametrize(
    "words", ["--help", "--version", "list models", "list models --json", "run --help"]
)
def test_looking_around_imports_nothing_heavy(words):
    out, loaded = modules(*words.split())
    assert out
    assert not loaded & HEAVY


@pytest.mark.parametrize("words", ["list methods", "list datasets --json", "show mia.loss"])
def test_listing_methods_imports_numpy_at_most(words):
    _, loaded = modules(*words.split())
    assert not loaded & (HEAVY - {"numpy", "PIL"})


def test_a_finished_command_is_repeated_without_torch(cli, material):
    words = ("run", "membership", *material.cards, "--data", material.images)
    first = cli(*words, "--json")
    assert first.code == 0 and "26 records" in first.err and "0 of them" in first.err
    out, loaded = modules(*words, "--json")
    assert json.loads(out) == first.json
    assert "torch" not in loaded and not loaded & {"sklearn", "pandas", "timm", "matplotlib"}


@pytest.mark.parametrize("words", ["list models --json", "list results --json"])
def test_a_reader_who_has_seen_enough_is_no_failure(words):
    """Of more than a buffer, which breaks while printing, and of less, which breaks at the end."""
    command = [sys.executable, "-c", MAIN, *words.split()]
    read, write = os.pipe()
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        command, stdout=write, stderr=subprocess.PIPE, text=True, env=buffered
    )
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


def test_nobody_at_stderr_is_no_failure_of_a_job(material):
    read, write = os.pipe()
    os.close(read)
    words = ["run", "mia.loss", material.cards[0], "--data", material.images, "--json"]
    talkative = "import securitynet.cli.common as c; c.PLAIN_INTERVAL_SECONDS = 0.0; "
    command = [sys.executable, "-c", talkative + MAIN, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert done.returncode == 0
    assert [record["status"] for record in json.loads(done.stdout)] == ["ok"]
