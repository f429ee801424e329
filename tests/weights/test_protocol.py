"""Newer protocols in the words of protocol 2: the same objects, and nothing else is let through."""

import io
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError
from securitynet.weights import child
from securitynet.weights.door import open_checkpoint
from securitynet.weights.inspect import scan
from securitynet.weights.protocol import rewrite, translate

LONG = "x" * 300
OBJECTS = [
    {"a": 1, "b": [2.5, None, True], "c": ("d", "d", "e"), "d": 2**40, "f": -1},
    {"same": [["shared"]] * 2, "text": "é\ud800", LONG: [LONG, LONG]},
    {"raw": b"\x00\xff", "memo": [f"{i}" for i in range(400)] * 2},
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", OBJECTS, ids=["plain", "shared", "many"])
def test_the_object_stays_the_same(value, protocol):
    data = pickle.dumps(value, protocol=protocol)
    file = io.BytesIO(b"before" + data + b"behind")
    file.seek(6)
    written = translate(file)
    assert (written[:2], file.read()) == (b"\x80\x02", b"behind")
    found = pickle.loads(written)
    assert found == value
    if "same" in value:
        assert found["same"][0] is found["same"][1]


def test_sets_become_lists():
    assert pickle.loads(translate(io.BytesIO(pickle.dumps({"s": {7}}, protocol=4)))) == {"s": [7]}


def test_a_slot_that_is_used_again_holds_the_last():
    data = b"\x80\x04\x8c\x01aq\x00]q\x00h\x00\x86."
    assert pickle.loads(translate(io.BytesIO(data))) == pickle.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8c\x02os\x940\x8c\x06system\x94h\x00h\x01\x93.",  # texts are not popped
        b"\x80\x04]\x94h\x00h\x00\x93.",
        pickle.dumps(bytearray(b"x"), protocol=5),
        pickle.dumps(frozenset({1}), protocol=4),
    ],
)
def test_what_has_no_counterpart_is_refused(data):
    with pytest.raises(ValueError, match=r"not known to torch|not written out"):
        translate(io.BytesIO(data))


@pytest.mark.parametrize("is_zip", [True, False])
def test_plain_files_stay_as_they_are(is_zip, tmp_path):
    path = tmp_path / "plain.pt"
    torch.save({"w": torch.zeros(2)}, path, _use_new_zipfile_serialization=is_zip)
    assert rewrite(path, tmp_path / "made.pt") == path


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_is_written_is_inspected_again(is_zip, tmp_path, monkeypatch):
    path = tmp_path / "new.pt"
    torch.save(
        {"w": torch.zeros(2)}, path, pickle_protocol=4, _use_new_zipfile_serialization=is_zip
    )
    made = rewrite(path, tmp_path / "made.pt")
    assert scan(made).verdict == "SAFE" and torch.load(made)["w"].shape == (2,)
    monkeypatch.setattr("securitynet.weights.protocol._text", lambda text: b"X\0\0\0\0")
    with pytest.raises(ValueError, match="no plain counterpart"):
        child.convert(str(path), str(tmp_path / "out"), None, "")


def opened(value, path):
    torch.save(value, path)
    return open_checkpoint(Weights(path=str(path)), folder=None, where="card")


def test_arrays_are_tensors_where_torch_has_their_type(tmp_path):
    arrays = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3), "h": np.ones(3, np.float16),
        "n": np.array(7), "t": torch.ones(2),
        "big": np.ones(2, ">f4"), "text": np.array(["a"]), "c": np.ones(2, np.complex64),
    }  # fmt: skip
    found = opened(arrays, tmp_path / "arrays.pt")
    tensors = load_file(found.path)
    assert set(tensors) == {"f", "h", "n", "t"}
    for name in ("f", "h", "n"):
        assert np.array_equal(tensors[name].numpy(), arrays[name])
        assert tensors[name].numpy().dtype == arrays[name].dtype
    assert set(found.notes) == {"left out: big", "left out: c", "left out: text"}


class Lying:
    """Pickles as an array whose bytes are not those of its shape."""

    def __init__(self, shape, raw):
        self.shape, self.raw = shape, raw

    def __reduce__(self):
        function, arguments, state = np.zeros(3, np.float32).__reduce__()
        return function, arguments, (state[0], self.shape, *state[2:4], self.raw)


@pytest.mark.parametrize(
    ("shape", "raw"),
    [((4,), b"x" * 12), ((2**40,), b"x" * 12), ((-1, -1), b"x" * 12), ((3,), "x")],
)
def test_arrays_that_lie_are_refused(shape, raw, tmp_path):
    with pytest.raises(IntegrityError, match=r"cannot be opened: (ValueError|RuntimeError|Type)"):
        opened({"w": Lying(shape, raw)}, tmp_path / "lying.pt")
