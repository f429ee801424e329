"""The limits of the process that opens a checkpoint: each is tried, not only read back."""

import socket
import subprocess
import sys

import pytest

HEAD = """
import json, os, resource, socket, sys
from securitynet.weights import child
child.limit(1000)
try:
    {attempt}
except (MemoryError, OSError) as error:
    print(type(error).__name__, getattr(error, "errno", None))
else:
    print("done")
"""
OTHER = {
    "address space": ("x = __import__('mmap').mmap(-1, 20 << 30)", ("OSError 12", "MemoryError")),
    "file size": ("open('big', 'wb', buffering=0).write(bytes(2**21)); "
                  "open('big', 'ab', buffering=0).write(b'x')", ("OSError 27",)),
    "open files": ("x = [open('/dev/null') for _ in range(300)]", ("OSError 24",)),
}  # fmt: skip


def attempted(attempt, folder):
    """Return what came of an attempt under the limits."""
    done = subprocess.run([sys.executable, "-c", HEAD.format(attempt=attempt)], cwd=folder,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", OTHER)
def test_a_limit_is_in_force(name, tmp_path):
    attempt, answers = OTHER[name]
    assert attempted(attempt, tmp_path).startswith(answers)


def test_without_the_limits_the_same_is_allowed(tmp_path):
    """The control: the attempts fail because of the limits."""
    for name in OTHER:
        code = HEAD.replace("child.limit(1000)", "").format(attempt=OTHER[name][0])
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stdout.strip() == "done", name


def test_processor_time_and_core_files_are_limited(tmp_path):
    read = "print([resource.getrlimit(x)[1] for x in (resource.RLIMIT_CPU, resource.RLIMIT_CORE)])"
    assert attempted(read, tmp_path).splitlines()[0] == "[300, 0]"


def test_processor_time_is_enforced(tmp_path):
    """With two seconds in place of three hundred, a loop is ended by the kernel."""
    code = (
        "import resource\nfrom securitynet.weights import child\n"
        "real = resource.setrlimit\n"
        "def short(kind, limits):\n"
        "    real(kind, (1, 1) if kind == resource.RLIMIT_CPU else limits)\n"
        "resource.setrlimit = short\nchild.limit(1000)\n"
        "for _ in range(10**11): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120
    )
    assert done.returncode < 0


def test_the_network_is_gone_where_the_kernel_allows(tmp_path):
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode and (
        subprocess.run(["unshare", "-Un", "true"], capture_output=True).returncode
    ):
        pytest.skip("this kernel or container refuses network namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=5)"
        assert attempted(connect, tmp_path).startswith("OSError 101")
