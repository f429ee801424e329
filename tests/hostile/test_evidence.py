"""What a scan says: the evidence of what is refused, and SAFE for what is fine in every format."""

import gzip
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from hostile_corpus import containers, opcodes, others
from safetensors.torch import save_file
from torch import nn

from securitynet.catalogue.cards import Weights
from securitynet.errors import UnsafeFileError, UsageError
from securitynet.weights.door import open_checkpoint
from securitynet.weights.findings import Tensors
from securitynet.weights.inspect import scan, scan_folder
from securitynet.weights.onnx_walk import check_onnx

FINE = opcodes.torch_zip(containers.FINE)


class Runs:
    """Runs a shell command when unpickled."""

    def __reduce__(self):
        return os.system, ("true",)


def test_the_evidence_names_the_import(written):
    content = (
        b"\x80\x04"
        + opcodes.text("os")
        + b"\x940"
        + opcodes.text("system")
        + b"\x940h\x00h\x01\x93."
    )
    first = scan(written("x.pkl", content)).findings[0]
    assert (first.opcode, first.name, first.rule) == (
        "STACK_GLOBAL",
        "os.system",
        "disallowed-import",
    )
    assert first.offset == content.index(b"\x93")
    assert str(first).startswith("pickle at byte ")


def test_the_door_refuses_with_the_evidence(tmp_path):
    torch.save({"w": torch.zeros(2), "x": Runs()}, tmp_path / "evil.pt")
    with pytest.raises(
        UnsafeFileError, match=r"evil/data.pkl at byte \d+ GLOBAL imports posix"
    ) as refused:
        open_checkpoint(Weights(path="evil.pt"), folder=str(tmp_path), where="card")
    assert "unsafe" in refused.value.flags


def test_a_safe_file_that_holds_no_weights_is_not_opened(written):
    path = written("x.npy", others.npy("'<f4'", "(2,)", bytes(8)))
    assert scan(path).verdict == "SAFE"
    with pytest.raises(UnsafeFileError, match="npy is not a format that weights are loaded from"):
        open_checkpoint(Weights(path=str(path)), folder=None, where="card")


def test_names_from_the_memo_that_are_fine_are_fine(written):
    names = opcodes.text("collections") + b"\x940" + opcodes.text("OrderedDict") + b"\x940"
    assert scan(written("x.pkl", b"\x80\x04" + names + b"h\x00h\x01\x93)R.")).verdict == "SAFE"


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_safe_in_every_protocol(protocol, written):
    value = {"a": [1, 2.5, None, True, "x", (3, "y")], "b": {}, "big": 2**70}
    report = scan(written("x.pkl", pickle.dumps(value, protocol=protocol)))
    assert (report.verdict, report.format) == ("SAFE", "pickle"), report.findings


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [((4, (4,), (1,)), "SAFE"), ((4, (2,), (2,)), "SAFE"), ((4, (2, 2), (1, 2)), "SAFE"),
     ((4, (0, 7), (1, 1)), "SAFE"), ((4, (3,), (2,)), "UNSAFE")],
)  # fmt: skip
def test_tensors_may_lie_anywhere_inside_their_storage(claims, verdict, written):
    numel, size, stride = claims
    body = opcodes.tensor(opcodes.storage(numel), 0, size, stride)
    assert scan(written("x.pt", opcodes.torch_zip(opcodes.whole(body)))).verdict == verdict


def safe_files(tmp_path):
    """Write one file of every format that can be found safe; yield (path, format, tensors)."""
    state = {"w": torch.zeros(2, 3), "n": torch.zeros(4, dtype=torch.int64)}
    both = Tensors(2, 10, ("float32", "int64"))
    torch.save(state, tmp_path / "x.pt")
    yield tmp_path / "x.pt", "torch-zip", both
    torch.save(state, tmp_path / "y.pt", _use_new_zipfile_serialization=False)
    yield tmp_path / "y.pt", "torch-legacy", both
    save_file(state, tmp_path / "x.safetensors")
    yield tmp_path / "x.safetensors", "safetensors", both
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    yield tmp_path / "x.npy", "npy", Tensors(1, 6, ("float32",))
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(6, np.uint8), b=np.zeros((), "<U3"))
    yield tmp_path / "x.npz", "npz", Tensors(2, 7, ("<U3", "uint8"))
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x.pt", "folder/x.pt")
        archive.add(tmp_path / "x.npy", "folder/" + "long" * 40)
    yield tmp_path / "x.tar.gz", "compressed", Tensors(3, 16, ("float32", "int64"))
    readme = ("readme.md", b"# A model\n")
    archive = opcodes.zipped([("m/x.pt", (tmp_path / "x.pt").read_bytes()), readme])
    (tmp_path / "x.zip").write_bytes(archive)
    yield tmp_path / "x.zip", "zip", both
    (tmp_path / "x.pt.gz").write_bytes(gzip.compress((tmp_path / "y.pt").read_bytes()))
    yield tmp_path / "x.pt.gz", "compressed", both
    weights = [(1, 2), (1, 3), (2, 1), (8, "w"), (9, bytes(24))]
    (tmp_path / "x.onnx").write_bytes(others.onnx(nodes=[[(4, "Relu")]], tensors=[weights]))
    yield tmp_path / "x.onnx", "onnx", Tensors(1, 6, ("float32",))


def test_what_is_fine_is_safe_in_every_format_that_can_be(tmp_path):
    formats = set()
    for path, form, tensors in safe_files(tmp_path):
        report = scan(path)
        assert (report.verdict, report.format, report.findings) == ("SAFE", form, ()), path
        assert report.tensors == tensors, path
        formats.add(form)
    assert len(formats) == 8


def test_a_safetensors_header_that_begins_like_a_pickle_is_safetensors(written):
    """A header of 640 bytes begins with 0x80 0x02, as a pickle does."""
    for length in (640, 896, 1152, 1408):
        header = json.dumps({"w": others.FINE_TENSOR}).encode().ljust(length)
        report = scan(written("x.safetensors", others.tensors_file(header)))
        assert (report.format, report.verdict) == ("safetensors", "SAFE")


def test_external_data_beside_an_onnx_model_are_checked(written, tmp_path):
    path = written("x.onnx", others.onnx(tensors=[others.external("weights.bin")]))
    assert "not there" in str(scan(path).findings[0])
    written("weights.bin", bytes(16))
    assert scan(path).verdict == "SAFE"
    written("weights.bin", bytes(15))
    assert "the 16 bytes it needs" in str(scan(path).findings[0])
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "elsewhere").write_bytes(bytes(16))
    (tmp_path / "weights.bin").symlink_to("elsewhere")
    assert scan(path).verdict == "UNSAFE"
    with path.open("rb") as file:
        assert "not at hand" in str(check_onnx(file).findings[0])


def test_functions_of_an_onnx_model_are_no_custom_operators(written):
    function = [(1, "Own"), (10, "pkg.own"), (7, opcodes.proto((4, "Relu")))]
    more = [(25, opcodes.proto(*function)), (8, opcodes.proto((1, "pkg.own"), (2, 1)))]
    model = others.onnx(nodes=[[(4, "Own"), (7, "pkg.own")]], more=more)
    assert scan(written("x.onnx", model)).verdict == "SAFE"
    other = others.onnx(nodes=[[(4, "Other"), (7, "pkg.own")]], more=more)
    assert "pkg.own.Other is not of the standard" in str(scan(written("x.onnx", other)).findings[0])


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_every_truncation_is_refused(container, written):
    data = FINE if container == "zip" else opcodes.torch_legacy(containers.FINE)
    for length in range(0, len(data), 3):
        assert scan(written("x.pt", data[:length])).verdict != "SAFE", length


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors", "onnx", "npz", "tar"])
def test_no_flipped_bit_crashes_the_scan(container, written):
    data = {
        "zip": FINE, "legacy": opcodes.torch_legacy(containers.FINE),
        "safetensors": others.tensors_file({"a": others.FINE_TENSOR}),
        "onnx": others.onnx(nodes=[[(4, "Relu")]], tensors=[[(1, 2), (2, 1), (8, "w"), (9, bytes(8))]]),
        "npz": opcodes.zipped([("a.npy", others.npy("'<f4'", data=bytes(4)))]),
        "tar": containers.tar_of(("x.pt", FINE, {}))[:2560],
    }[container]  # fmt: skip
    for position in range(0, len(data), 2):
        changed = bytearray(data)
        changed[position] ^= 1 << position // 2 % 8
        report = scan(written("x.pt", bytes(changed)))
        assert report.verdict in ("SAFE", "UNSAFE", "UNDECIDED")


def test_a_rewritten_checkpoint_of_torch_is_safe(tmp_path):
    torch.save(nn.BatchNorm2d(2).state_dict(), tmp_path / "x.pt")
    assert scan(tmp_path / "x.pt").findings == ()


@pytest.fixture
def repository(tmp_path):
    """A hub repository: weights, a configuration, a text."""
    (tmp_path / "model.bin").write_bytes(FINE)
    (tmp_path / "config.json").write_text(json.dumps({"num_labels": 3}))
    (tmp_path / "README.md").write_text("# A model\n")
    return tmp_path


def test_a_repository_of_weights_is_safe(repository):
    reports = scan_folder(repository)
    assert {report.format for report in reports} == {"torch-zip", "json", "text"}
    assert {report.verdict for report in reports} == {"SAFE"}


def test_a_repository_with_code_is_not(repository):
    reference = {"auto_map": {"AutoModel": "modeling.Evil"}}
    (repository / "config.json").write_text(json.dumps(reference))
    (repository / "modeling.py").write_text("x = 1\n")
    verdicts = {report.path.rsplit("/", 1)[1]: report.verdict for report in scan_folder(repository)}
    assert verdicts["config.json"] == "UNSAFE"
    assert verdicts["modeling.py"] == "UNDECIDED"


def test_links_and_pipes_of_a_folder_are_not_followed(repository, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.pt").write_bytes(FINE)
    (repository / "link.pt").symlink_to(outside / "secret.pt")
    (repository / "folder").symlink_to(outside)
    (repository / "same.bin").symlink_to("model.bin")
    os.mkfifo(repository / "pipe.pt")
    reports = {report.path.rsplit("/", 1)[1]: report for report in scan_folder(repository)}
    assert "same.bin" not in reports
    for name in ("link.pt", "folder", "pipe.pt"):
        assert reports[name].verdict == "UNDECIDED"
        assert reports[name].sha256 is None


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no files"):
        scan_folder(tmp_path)


def test_the_guide_names_every_format():
    from pathlib import Path

    from securitynet.weights.formats import NAMED_ONLY
    from securitynet.weights.inspect import BUNDLES, CHECKS

    page = (Path(__file__).parents[2] / "docs" / "scan.md").read_text(encoding="utf-8")
    assert not [form for form in {*CHECKS, *BUNDLES, "onnx", "text"} if f"`{form}`" not in page]
    words = {
        "tf-savedmodel": "SavedModel",
        "7-zip": "7-Zip",
        "msgpack": "MessagePack",
        "program": "programs",
    }
    named = [words.get(form, form) for form in NAMED_ONLY if form != "empty zip"]
    assert not [name for name in named if name.lower() not in page.lower()]
