"""ONNX at the door: only standard operators in one whole file, tried in a throw-away process."""

import stat
import sys

import numpy as np
import pytest

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError, UnsafeFileError
from securitynet.files.digest import digest
from securitynet.weights import convert, onnx_session
from securitynet.weights.door import open_checkpoint
from securitynet.weights.inspect import scan
from securitynet.weights.onnx_session import open_session, read_checked

pytest.importorskip("onnxruntime")


@pytest.fixture
def write(tmp_path, onnx_bytes):
    """Write a graph of these nodes from pictures ``[n, 1, 2, 2]`` to ``y``; return its path."""

    def write(nodes, tensors=(), y=("n", 4), **fields):
        ends = [onnx_bytes.end("x", ("n", 1, 2, 2))], [onnx_bytes.end("y", y)]
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx_bytes.model(onnx_bytes.graph(nodes, *ends, tensors), **fields))
        return path

    return write


@pytest.fixture
def plain(write, onnx_bytes):
    return write([onnx_bytes.node("Flatten", ["x"], ["y"])])


def opened(path):
    return open_checkpoint(Weights(path=str(path)), folder=None, where="card")


def test_a_standard_graph_is_kept_as_it_is_and_read_only(plain):
    found = opened(plain)
    assert scan(plain).verdict == "SAFE" and scan(plain).format == found.format == "onnx"
    assert found.path.suffix == ".onnx" and found.path.read_bytes() == plain.read_bytes()
    assert found.sha256 == found.converted_sha256 == digest(plain)
    assert not stat.S_IMODE(found.path.stat().st_mode) & 0o222
    assert opened(plain) == found  # from the cache


def test_a_changed_cache_is_noticed(plain):
    found = opened(plain)
    assert read_checked(found.path, found.converted_sha256) == plain.read_bytes()
    found.path.chmod(0o644)
    found.path.write_bytes(plain.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="damaged"):
        read_checked(found.path, found.converted_sha256)


def hidden(b, op, domain):
    """Return places for a foreign operator: in plain sight, in a branch, in a function."""
    foreign = b.node(op, ["x"], ["y"], domain)
    branch = b.graph([foreign], [], [b.end("y", ("n", 4))])
    function = b.field(1, "Own") + b.fields(7, [foreign]) + b.field(10, "own")
    domains = ("", domain)
    return {
        "graph": ([foreign], {"domains": domains}),
        "undeclared": ([foreign], {}),
        "branch": (
            [b.node("If", ["c"], ["y"], then_branch=("g", branch), else_branch=("g", branch))],
            {"domains": domains},
        ),
        "function": (
            [b.node("Own", ["x"], ["y"], "own")],
            {"domains": (*domains, "own"), "functions": [function]},
        ),
    }


@pytest.mark.parametrize("place", ["graph", "undeclared", "branch", "function"])
@pytest.mark.parametrize(
    ("op", "domain"),
    [("PyOp", "ai.onnx.contrib"), ("EPContext", "com.microsoft"), ("Gelu", "com.microsoft")],
)
def test_operators_outside_the_standard_are_refused_wherever_they_are(
    place, op, domain, write, onnx_bytes
):
    nodes, fields = hidden(onnx_bytes, op, domain)[place]
    path = write(nodes, [onnx_bytes.tensor("c", np.zeros(1, np.float32))], **fields)
    assert scan(path).verdict != "SAFE"
    with pytest.raises(UnsafeFileError, match=op):
        opened(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "beside.bin"])
def test_tensors_in_other_files_are_refused(location, write, onnx_bytes, tmp_path):
    (tmp_path / "beside.bin").write_bytes(bytes(64))
    gemm = [onnx_bytes.node("Flatten", ["x"], ["h"]), onnx_bytes.node("Gemm", ["h", "w"], ["y"])]
    path = write(gemm, [onnx_bytes.external("w", (4, 4), location)])
    with pytest.raises((UnsafeFileError, IntegrityError), match="reads"):
        opened(path)


def test_an_operator_that_the_standard_does_not_have_is_refused(write, onnx_bytes):
    with pytest.raises(IntegrityError, match=r"onnxruntime cannot open it.*NoSuchThing"):
        opened(write([onnx_bytes.node("NoSuchThing", ["x"], ["y"])]))


def bomb(b, elements):
    """Return nodes that make a tensor of so many elements, of nothing but its size."""
    return [
        b.node("ConstantOfShape", ["size"], ["huge"]),
        b.node("ReduceSum", ["huge"], ["sum"]),
        b.node("Flatten", ["x"], ["h"]),
        b.node("Add", ["h", "sum"], ["y"]),
    ], [b.tensor("size", np.array([elements], np.int64))]


def test_a_graph_that_takes_all_memory_is_refused_and_we_survive(write, onnx_bytes):
    with pytest.raises(IntegrityError, match=r"memory|cannot open|ended with"):
        opened(write(*bomb(onnx_bytes, 2**33)))  # 32 GiB
    assert opened(write(*bomb(onnx_bytes, 2**10))).format == "onnx"


def test_a_graph_that_does_not_end_is_refused(write, onnx_bytes, monkeypatch):
    b = onnx_bytes
    monkeypatch.setattr(convert, "TRIAL_SECONDS", 4)
    body = b.graph(
        [
            b.node("Identity", ["go"], ["again"]),
            b.node("Mul", ["state", "state"], ["next"]),
        ],
        [b.end("i", (), b.INT64), b.end("go", (), 9), b.end("state", ("n", 4))],
        [b.end("again", (), 9), b.end("next", ("n", 4))],
    )
    nodes = [
        b.node("Flatten", ["x"], ["h"]),
        b.node("Loop", ["trips", "", "h"], ["y"], body=("g", body)),
    ]
    with pytest.raises(UnsafeFileError, match="over 4 s"):
        opened(write(nodes, [b.tensor("trips", np.array(2**62, np.int64))]))


def test_truncated_models_are_damaged(plain):
    data = plain.read_bytes()
    for length in range(8, len(data), 7):
        plain.write_bytes(data[:length])
        with pytest.raises((IntegrityError, UnsafeFileError)):
            opened(plain)


def test_without_onnxruntime_the_extra_is_named(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ResourceError, match=r"need onnxruntime; pip install 'securitynet\[onnx\]'"):
        opened(plain)
    assert scan(plain).verdict == "SAFE"  # needs none


def test_a_model_may_not_set_the_options_of_its_runtime(plain, monkeypatch):
    monkeypatch.setenv(onnx_session.CONFIGURED, "1")
    with pytest.raises(ResourceError, match="unset it"):
        opened(plain)


def test_only_named_providers_and_the_onnx_format_are_used(plain):
    session = open_session(plain.read_bytes(), n_threads=1)
    assert session.get_providers() == ["CPUExecutionProvider"]
    options = session.get_session_options()
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"
    assert options.intra_op_num_threads == 1
