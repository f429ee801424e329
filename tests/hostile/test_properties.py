"""Random pickles: the walker never fails or hangs, and what it finds safe imports nothing else.

The other side is Python's own unpickler, of which only the import is replaced: it notes every name
and returns something inert. So a name that the walker did not see, but an unpickler would import, is
a counterexample.
"""

import io
import pickle
import pickletools
import struct
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from securitynet.weights.allowlist import ALLOWED
from securitynet.weights.findings import verdict
from securitynet.weights.inspect import scan
from securitynet.weights.pickle_walk import walk

QUICK = settings(max_examples=1000, deadline=None, derandomize=True,
                 suppress_health_check=list(HealthCheck))  # fmt: skip
LONG = settings(QUICK, max_examples=10_000, derandomize=False)
MAX_SECONDS = 2.0


class Inert:
    """What every import becomes: it may be called, filled and given a state, and does nothing."""

    def __init__(self, *args, **fields):
        pass

    def __new__(cls, *args, **fields):
        return object.__new__(cls)

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def __call__(self, *args):
        return Inert()

    def append(self, value):
        pass

    def extend(self, values):
        pass


class Recorder:
    """Records the names that an unpickler imports."""

    def __init__(self, data, kind):
        self.names = set()

        class Unpickler(kind):
            def find_class(_, module, name):
                self.names.add((module, name))
                return OrderedDict if (module, name) == ("collections", "OrderedDict") else Inert

            def persistent_load(_, key):
                return Inert()

        self.unpickler = Unpickler(io.BytesIO(data))
        self.is_whole = False

    def run(self):
        try:
            self.unpickler.load()
            self.is_whole = True
        except Exception:  # any failure is fine here: the names before it count
            pass
        return self.names


def check(data):
    """Walk a pickle; return the verdict after comparing with both of Python's unpicklers."""
    began = time.process_time()
    found = walk(io.BytesIO(data))
    assert time.process_time() - began < MAX_SECONDS
    said = verdict(found.findings)
    if said == "SAFE":
        assert found.end is not None
        for kind in (pickle.Unpickler, pickle._Unpickler):
            names = Recorder(data, kind).run()
            assert names <= ALLOWED, names - ALLOWED
            assert names <= found.globals, names - found.globals
    return said


NAMES = [("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("os", "system"),
         ("torch", "FloatStorage"), ("torch", "device"), ("_codecs", "encode"), ("builtins", "set"),
         ("numpy", "dtype"), ("argparse", "Namespace"), ("builtins", "eval"), ("torch", "os.system"),
         ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray")]  # fmt: skip
WORDS = sorted({word for pair in NAMES for word in pair} | {"storage", "0", "cpu", "latin1", "f4"})


def short_text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def one_opcode():
    """Generate one opcode with an argument of its own kind, more often one that matters."""
    plain = [opcode.code.encode("latin1") for opcode in pickletools.opcodes if opcode.arg is None]
    small = st.integers(0, 6).map(lambda value: bytes([value]))
    return st.one_of(
        st.sampled_from([code for code in plain if code != b"."]),
        st.sampled_from([b"(", b")", b"]", b"}", b"0", b"R", b"b", b"\x93", b"t", b"\x85", b"\x86",
                         b"\x87", b"s", b"u", b"e", b"a", b"\x94", b"\x81", b"Q", b"N", b"\x89"]),
        st.sampled_from(NAMES).map(lambda pair: f"c{pair[0]}\n{pair[1]}\n".encode()),
        st.sampled_from(NAMES).map(lambda pair: short_text(pair[0]) + short_text(pair[1]) + b"\x93"),
        st.sampled_from(NAMES).map(lambda pair: f"i{pair[0]}\n{pair[1]}\n".encode()),
        st.sampled_from(WORDS).map(short_text),
        st.sampled_from(WORDS).map(lambda word: f"V{word}\n".encode()),
        st.sampled_from(WORDS).map(lambda word: b"X" + struct.pack("<I", len(word)) + word.encode()),
        st.builds(lambda code, index: code + index, st.sampled_from([b"q", b"h", b"K"]), small),
        st.integers(0, 6).map(lambda index: f"g{index}\n".encode()),
        st.integers(0, 6).map(lambda index: f"p{index}\n".encode()),
        st.integers(0, 40).map(lambda length: b"\x95" + struct.pack("<Q", length)),
        st.binary(max_size=4).map(lambda raw: b"C" + bytes([len(raw)]) + raw),
        st.integers(0, 5).map(lambda protocol: b"\x80" + bytes([protocol])),
        st.binary(min_size=1, max_size=3),
    )  # fmt: skip


STREAMS = st.builds(
    lambda head, body: head + b"".join(body) + b".",
    st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"\x80\x05"]),
    st.lists(one_opcode(), max_size=30),
)


def real_pickles():
    """Return pickles of plain values, arrays and state dicts in all protocols."""
    state = OrderedDict(w=torch.zeros(2, 3), b=torch.zeros(2, dtype=torch.half))
    values = [
        {"epoch": 3, "name": "x", "list": [1, 2.0, None], "nested": {"t": (1, 2)}},
        OrderedDict([("a", 1), ("b", [OrderedDict()])]),
        {"array": np.zeros(3, np.float32), "scalar": np.float64(1.0)},
        {1, 2, "x"},
    ]
    found = [pickle.dumps(value, protocol=p) for value in values for p in range(6)]
    for protocol in (2, 3, 4, 5):
        for new in (False, True):
            file = io.BytesIO()
            torch.save(state, file, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
            found.append(_object_of(file.getvalue(), new))
    return found


def _object_of(data, is_zip):
    import zipfile

    if is_zip:
        return zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl")
    stream = io.BytesIO(data)
    for _ in range(3):
        list(pickletools.genops(stream))
    begin = stream.tell()
    list(pickletools.genops(stream))
    return data[begin : stream.tell()]


REAL = real_pickles()


@st.composite
def mutated(draw):
    """Generate a real pickle with bytes changed, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        what = draw(st.integers(0, 4))
        if what == 0:
            data[at] = draw(st.integers(0, 255))
        elif what == 1:
            del data[at : at + draw(st.integers(1, 8))]
        elif what == 2:
            data[at:at] = draw(one_opcode())
        elif what == 3:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            data[at] ^= 1 << draw(st.integers(0, 7))
        data = data or bytearray(b".")
    return bytes(data)


@QUICK
@given(STREAMS)
def test_random_opcodes(data):
    check(data)


@QUICK
@given(mutated())
def test_mutated_pickles(data):
    check(data)


@pytest.mark.long
@LONG
@given(STREAMS)
def test_random_opcodes_at_length(data):
    check(data)


@pytest.mark.long
@LONG
@given(mutated())
def test_mutated_pickles_at_length(data):
    check(data)


def test_real_pickles_of_plain_values_are_safe():
    """The control: the property would hold of a walker that refuses everything, too."""
    assert sum(check(data) == "SAFE" for data in REAL) >= 0.8 * len(REAL)


def test_the_recorder_sees_what_a_blind_walker_would_miss():
    data = b"\x80\x02" + short_text("os") + short_text("system") + b"\x93."
    for kind in (pickle.Unpickler, pickle._Unpickler):
        assert Recorder(data, kind).run() == {("os", "system")}


HEADS = [b"PK\x03\x04", b"\x80\x02", b"\x93NUMPY\x01\0", b"\x89HDF\r\n\x1a\n", b"\x08\x08\x3a", b"\x1f\x8b\x08",
         b"x\x9c", b"BZh9", b"\x81\xa1", b"{", b"GGUF", b"\x10\0\0\0\0\0\0\0{", b"(dp0\n", b""]  # fmt: skip


@settings(QUICK, max_examples=300)
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_any_bytes_get_a_verdict(tmp_path_factory, head, tail):
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    path.write_bytes(head + tail)
    assert scan(path).verdict in ("SAFE", "UNSAFE", "UNDECIDED")


def test_a_line_that_crosses_its_frame_is_refused():
    """Found at random: Python's fast unpickler drops what is left of the frame, others do not."""
    data = b"\x80\x04\x95\x02" + bytes(7) + b"ccollections\nOrderedDict\n)R."
    assert Recorder(data, pickle.Unpickler).run() == {("ollections", "OrderedDict")}
    assert check(data) == "UNSAFE"
