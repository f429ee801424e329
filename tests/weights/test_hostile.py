"""Hostile files with a harmless canary: all refused with the evidence, and nothing runs."""

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, UnsafeFileError
from securitynet.weights.door import open_checkpoint
from securitynet.weights.inspect import scan


class Runs:
    """Runs a shell command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def text(value):
    """Return the opcode that pushes a short text (protocol 4)."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def long_text(value):
    """Return the opcode that pushes a text (protocol 2)."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def shell(path):
    return f"touch {path}"


def call(path):
    """Return opcodes that call what lies on the stack with the canary's command, and end."""
    return text(shell(path)) + b"\x85R."


PICKLES = {
    "reduce": lambda path: pickle.dumps(Runs(path), protocol=2),
    "reduce, stack global": lambda path: pickle.dumps(Runs(path), protocol=4),
    "names from the memo": lambda path: (
        b"\x80\x04" + text("os") + b"\x940" + text("system") + b"\x940h\x00h\x01\x93" + call(path)
    ),
    "names under popped ones": lambda path: (
        b"\x80\x04" + text("os") + text("system") + text("collections") + text("OrderedDict")
        + b"00\x93" + call(path)
    ),
    "memo overwritten": lambda path: (
        b"\x80\x04" + text("collections") + b"q\x050" + text("os") + b"q\x050h\x05"
        + text("system") + b"\x93" + call(path)
    ),
    "name on a tuple": lambda path: b"\x80\x04)" + text("system") + b"\x93" + call(path),
    "inst": lambda path: b"\x80\x02(" + long_text(shell(path)) + b"ios\nsystem\n.",
    "obj": lambda path: b"\x80\x02(cos\nsystem\n" + long_text(shell(path)) + b"o.",
    "ext": lambda path: b"\x80\x02\x82\x01" + long_text(shell(path)) + b"\x85R.",
    "newobj_ex": lambda path: b"\x80\x04cos\nsystem\n" + text(shell(path)) + b"\x85}\x92.",
    "persistent text": lambda path: b"\x80\x02Pos.system\n.",
    "escaped name": lambda path: (
        b"\x80\x02ccollections\nOrdered\\x44ict\n" + long_text(shell(path)) + b"\x85R."
    ),
    "dotted name": lambda path: (
        b"\x80\x04" + text("torch") + text("os.system") + b"\x93" + call(path)
    ),
    "allowed name in the wrong module": lambda path: b"\x80\x02cos\nOrderedDict\n)R.",
    "data called": lambda path: b"\x80\x02ctorch\nfloat32\n)R.",
    "codec": lambda path: (
        b"\x80\x02c_codecs\nencode\n" + long_text("x") + long_text("zip") + b"\x86R."
    ),
    "state of a tensor": lambda path: b"\x80\x02ctorch\ndevice\n" + long_text("cpu") + b"\x85R}b.",
    "two stops": lambda path: pickle.dumps({}, protocol=2) + pickle.dumps(Runs(path), protocol=2),
    "trailing bytes": lambda path: pickle.dumps({}, protocol=2) + b"\x00",
}  # fmt: skip


@pytest.mark.parametrize("trick", PICKLES)
def test_hostile_pickle_is_refused(trick, tmp_path, canary):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(PICKLES[trick](canary))
    report = scan(path)
    assert report.verdict == "UNSAFE"
    assert report.findings[0].offset is not None
    assert report.findings[0].member == "pickle"


@pytest.mark.parametrize("trick", PICKLES)
def test_hostile_pickle_inside_a_zip_is_refused(trick, rezip, canary):
    path = rezip([("archive/data.pkl", PICKLES[trick](canary)), ("archive/version", b"3\n")])
    report = scan(path)
    assert (report.format, report.verdict) == ("torch-zip", "UNSAFE")
    assert report.findings[0].member == "archive/data.pkl"


@pytest.mark.parametrize("trick", PICKLES)
def test_hostile_object_in_the_legacy_container_is_refused(trick, legacy, canary):
    data = legacy.read_bytes()
    begin = pickle_ends(data)[2]
    legacy.write_bytes(data[:begin] + PICKLES[trick](canary) + data[pickle_ends(data)[3] :])
    assert scan(legacy).verdict != "SAFE"


def pickle_ends(data):
    """Return where each of the five pickles of a legacy file ends."""
    import pickletools

    stream, ends = io.BytesIO(data), []
    for _ in range(5):
        list(pickletools.genops(stream))
        ends.append(stream.tell())
    return ends


def test_the_evidence_names_the_import(tmp_path, canary):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(PICKLES["names from the memo"](canary))
    first = scan(path).findings[0]
    assert (first.opcode, first.name) == ("STACK_GLOBAL", "os.system")
    assert first.offset == path.read_bytes().index(b"\x93")
    assert str(first).startswith("pickle at byte ")


def test_names_from_the_memo_that_are_fine_are_fine(tmp_path):
    path = tmp_path / "fine.pkl"
    names = text("collections") + b"\x940" + text("OrderedDict") + b"\x940h\x00h\x01\x93)R."
    path.write_bytes(b"\x80\x04" + names)
    assert scan(path).verdict == "SAFE"


BOUNDS = {
    "huge number": b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * 5000 + b".",
    "nested lists": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "nested marks": b"\x80\x02" + b"(" * 5000 + b"t" * 5000 + b".",
    "endless": b"\x80\x02" + b"N0" * 300_000 + b"N.",
    "lying length": b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc",
    "memo slot": b"\x80\x02Nr\xff\xff\xff\xff.",
    "empty stack": b"\x80\x02R.",
    "unknown memo": b"\x80\x02h\x07.",
    "no stop": b"\x80\x02N",
    "left behind": b"\x80\x02NN.",
}


@pytest.mark.parametrize("trick", BOUNDS)
def test_what_is_out_of_bounds_is_undecided(trick, tmp_path):
    path = tmp_path / "odd.pkl"
    path.write_bytes(BOUNDS[trick])
    assert scan(path).verdict == "UNDECIDED"


@pytest.mark.parametrize("which", range(5))
def test_every_pickle_of_the_legacy_container_is_walked(which, legacy, canary):
    data, ends = legacy.read_bytes(), [0]
    ends += pickle_ends(data)
    evil = pickle.dumps(Runs(canary), protocol=2)
    begin = ends[which] if which else None
    head = data[:begin] if which else b""
    magic = pickle.dumps((0x1950A86A20F9469CFC6C, Runs(canary)), protocol=2)
    legacy.write_bytes((head + evil if which else magic) + data[ends[which + 1] :])
    report = scan(legacy)
    assert report.verdict == "UNSAFE"
    assert report.findings[0].name == "posix.system"


def test_bytes_behind_the_tensors_are_refused(legacy):
    legacy.write_bytes(legacy.read_bytes() + b"more")
    assert "follow the tensors" in str(scan(legacy).findings[0])


def test_a_legacy_file_that_is_also_a_tar_archive_is_refused(legacy):
    import tarfile

    header = bytearray(tarfile.TarInfo("x").tobuf())
    data = legacy.read_bytes()
    header[:14] = data[:14]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    legacy.write_bytes(bytes(header) + data)
    assert "tar archive" in str(scan(legacy).findings[0])


def members(path):
    with zipfile.ZipFile(path) as archive:
        return [(item.filename, archive.read(item)) for item in archive.infolist()]


def test_a_rewritten_zip_is_safe(zipped, rezip):
    assert scan(rezip(members(zipped))).findings == ()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zipped/data.pkl", "occurs twice"),
        ("zipped/DATA.PKL", ""),
        ("zipped/data/../../x", "leaves the archive's folder"),
        ("/etc/x", "leaves the archive's folder"),
        ("zipped/code/x.py", "TorchScript"),
        ("zipped/constants.pkl", "TorchScript"),
        ("zipped/other", "no member that torch writes"),
        ("else/data.pkl", "no member that torch writes"),
        ("zipped\\data.pkl", "is named"),
    ],
)
def test_members_that_do_not_belong_are_refused(name, words, zipped, rezip):
    report = scan(rezip([*members(zipped), (name, b"x")]))
    assert report.verdict != "SAFE"
    assert words in " ".join(map(str, report.findings))


def test_compressed_members_are_refused(zipped, rezip):
    report = scan(rezip([*members(zipped)], method=zipfile.ZIP_DEFLATED))
    assert "is compressed" in str(report.findings[0])


def damaged(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return scan(path)


def local_name(data):
    data[30 + data[30:].index(b"data.pkl")] ^= 1


def encrypt(data):
    data[data.index(b"PK\x01\x02") + 8] |= 1


def local_size(data):
    data[22] ^= 1


def directory_offset(data):
    data[-6] ^= 1


def count(data):
    data[-12] ^= 1


def comment(data):
    data[-2:] = b"\x03\x00abc"


def prefix(data):
    data[:0] = b"PK\x03\x04" + b"\0" * 96


def pickled(data):
    data[60] ^= 1


@pytest.mark.parametrize(
    "change",
    [local_name, encrypt, local_size, directory_offset, count, comment, prefix, pickled],
)
def test_containers_that_two_readers_see_differently_are_refused(change, zipped, rezip):
    assert damaged(rezip(members(zipped)), change).verdict != "SAFE"


@pytest.mark.parametrize("change", [encrypt, directory_offset, count, comment, prefix])
def test_containers_written_by_torch_are_checked_alike(change, zipped):
    assert damaged(zipped, change).verdict != "SAFE"


def test_a_directory_hidden_in_a_tensor_is_refused(zipped, rezip):
    """Python finds the directory from the end, torch by its offset: both must be the same."""
    path = rezip(members(zipped))
    data = path.read_bytes()
    begin = data.index(b"PK\x01\x02")
    end = bytearray(data[-22:])
    end[16:20] = struct.pack("<I", begin - 400)
    path.write_bytes(data[:-22] + end)
    assert scan(path).verdict != "SAFE"


def storage_pickle(numel, size, stride, offset=0):
    """Return a pickle of one float tensor with these claims about its storage."""
    number = lambda n: b"\x8a\x08" + struct.pack("<q", n)  # noqa: E731
    persistent = (
        b"(" + long_text("storage") + b"ctorch\nFloatStorage\n" + long_text("0")
        + long_text("cpu") + number(numel) + b"tQ"
    )  # fmt: skip
    arguments = b"(" + persistent + number(offset) + number(size) + b"\x85" + number(stride)
    rest = b"\x85\x89ccollections\nOrderedDict\n)RtR"
    return (
        b"\x80\x02}"
        + long_text("w")
        + b"ctorch._utils\n_rebuild_tensor_v2\n"
        + arguments
        + rest
        + b"s."
    )


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ((4, 4, 1), "SAFE"),
        ((4, 2, 2), "SAFE"),
        ((4, 3, 2), "UNSAFE"),
        ((4, 5, 1), "UNSAFE"),
        ((4, 4, 1, 1), "UNSAFE"),
        ((4, 4, -1), "UNSAFE"),
        ((5, 4, 1), "UNSAFE"),
        ((4, 2**40, 0), "UNSAFE"),
    ],
)
def test_tensors_must_lie_inside_their_storage(claims, verdict, rezip):
    pickled = storage_pickle(*claims)
    path = rezip([("a/data.pkl", pickled), ("a/data/0", b"\0" * 16), ("a/version", b"3\n")])
    assert scan(path).verdict == verdict


def tensors_file(header, n_bytes=8):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\0" * n_bytes


FINE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = {
    "overlap": {"a": FINE, "b": FINE},
    "hole": {"a": {**FINE, "data_offsets": [4, 12]}},
    "short": {"a": {**FINE, "shape": [1]}},
    "beyond the end": {"a": {**FINE, "shape": [3], "data_offsets": [0, 12]}},
    "negative": {"a": {**FINE, "shape": [-2], "data_offsets": [0, -8]}},
    "fraction": {"a": {**FINE, "data_offsets": [0.0, 8.0]}},
    "type": {"a": {**FINE, "dtype": "OBJECT"}},
    "not a mapping": {"a": [1, 2]},
    "metadata": {"__metadata__": {"a": [1]}, "a": FINE},
    "nesting": b'{"a":' + b"[" * 100_000,
    "twice": b'{"a":1,"a":2}',
    "not utf-8": b'{"\xff":1}',
}


@pytest.mark.parametrize("trick", HEADERS)
def test_malformed_safetensors_are_refused(trick, tmp_path):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(tensors_file(HEADERS[trick]))
    report = scan(path)
    assert (report.format, report.verdict) == ("safetensors", "UNDECIDED")
    with pytest.raises(IntegrityError, match="malformed header"):
        open_checkpoint(Weights(path=str(path)), folder=None, where="odd")


def test_well_formed_safetensors_are_safe(tmp_path):
    path = tmp_path / "fine.safetensors"
    path.write_bytes(tensors_file({"__metadata__": {"by": "hand"}, "a": FINE}))
    assert scan(path).verdict == "SAFE"


@pytest.mark.parametrize("content", [b"", b"\x80", b"<html>not found</html>", b"\x93NUMPY\x01\x00"])
def test_unknown_formats_are_undecided(content, tmp_path):
    path = tmp_path / "unknown"
    path.write_bytes(content)
    assert scan(path).verdict == "UNDECIDED"


@pytest.mark.parametrize("container", ["zipped", "legacy"])
def test_every_truncation_is_refused(container, request):
    path = request.getfixturevalue(container)
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert scan(path).verdict != "SAFE", length


def test_no_flipped_byte_crashes_the_scan(legacy):
    data = legacy.read_bytes()
    for position in range(0, pickle_ends(data)[4], 3):
        changed = bytearray(data)
        changed[position] ^= 0x55
        legacy.write_bytes(changed)
        assert scan(legacy).verdict in ("SAFE", "UNSAFE", "UNDECIDED")


def test_the_door_refuses_with_the_evidence(tmp_path, canary):
    path = tmp_path / "evil.pt"
    torch.save({"w": torch.zeros(2), "x": Runs(canary)}, path)
    with pytest.raises(
        UnsafeFileError, match=r"evil/data.pkl at byte \d+ GLOBAL imports posix"
    ) as e:
        open_checkpoint(Weights(path="evil.pt"), folder=str(tmp_path), where="card")
    assert "unsafe" in e.value.flags
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
