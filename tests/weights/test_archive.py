"""Archives: one member is streamed out; what an archive says about places is never believed."""

import struct
import zipfile

import pytest

from securitynet.errors import IntegrityError, ResourceError
from securitynet.weights.archive import directory_bytes, extract_member

BODY = bytes(range(256)) * 64


@pytest.fixture
def make(rezip):
    """Return a function that writes a zip archive of (name, data) pairs."""
    return lambda *members, method=zipfile.ZIP_DEFLATED: rezip(members, method=method)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "cache" / "member"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("asked", ["weights/a.pth", "a.pth"])
def test_a_member_is_found_by_its_path_or_its_last_part(asked, method, make, out):
    path = make(("weights/", b""), ("weights/a.pth", BODY), ("weights/b.pth", b"b"), method=method)
    assert extract_member(path, asked, out, where="card").read_bytes() == BODY
    assert [file.name for file in out.parent.iterdir()] == ["member"]


def test_a_whole_path_comes_before_a_last_part(make, out):
    path = make(("old/a.pth", b"old"), ("a.pth", BODY))
    assert extract_member(path, "a.pth", out, where="card").read_bytes() == BODY


@pytest.mark.parametrize("name", ["../../evil.pth", "/etc/evil.pth", "..\\evil.pth"])
def test_the_archive_does_not_decide_where_a_file_goes(name, make, out, tmp_path):
    path = make((name, BODY), ("good.pth", b"good"))
    extract_member(path, "good.pth", out, where="card")
    extract_member(path, name.replace("\\", "/") if "/" in name else name, out, where="card")
    assert out.read_bytes() == BODY
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize(
    ("members", "asked", "words"),
    [
        ([("x/a.pth", b"1"), ("y/a.pth", b"2")], "a.pth", "holds 2 members 'a.pth'"),
        ([("b.pth", b"1")], "a.pth", r"no member 'a\.pth'; it holds 'b\.pth'"),
        ([(f"{i}", b"") for i in range(9)], "a.pth", "and 5 more"),
        ([], "a.pth", "it holds nothing"),
    ],
)
def test_a_member_that_cannot_be_told_is_refused(members, asked, words, make, out):
    with pytest.raises(IntegrityError, match=words):
        extract_member(make(*members), asked, out, where="card")
    assert not out.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(make, out):
    with pytest.raises(IntegrityError, match="holds 2 members"):
        extract_member(make(("a.pth", b"1"), ("a.pth", b"2")), "a.pth", out, where="card")


def patched(path, offset, data):
    """Change bytes of the central directory's first entry and of the local header."""
    raw = bytearray(path.read_bytes())
    for begin, shift in ((raw.index(b"PK\x01\x02"), 2), (raw.index(b"PK\x03\x04"), 0)):
        raw[begin + offset + shift : begin + offset + shift + len(data)] = data
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("offset", "data", "words"),
    [
        (6, struct.pack("<H", 1), "is encrypted"),
        (8, struct.pack("<H", 12), "compressed by method 12"),
        (14, b"\0\0\0\0", "archive is damaged: Bad CRC"),
    ],
)
def test_an_odd_member_is_refused(offset, data, words, make, out):
    path = patched(make(("a.pth", BODY)), offset - 0, data)
    with pytest.raises(IntegrityError, match=words):
        extract_member(path, "a.pth", out, where="card")
    assert not out.exists()


def test_a_bomb_is_refused_before_it_is_unpacked(make, out):
    path = make(("a.pth", bytes(10_000_000)))
    with pytest.raises(IntegrityError, match=r"unpacks to 10,000,000 bytes, over the limit"):
        extract_member(path, "a.pth", out, where="card", max_bytes=1_000_000)
    lying = patched(path, 22, struct.pack("<I", 500))  # says 500 bytes, holds ten million
    with pytest.raises(IntegrityError, match="damaged"):
        extract_member(lying, "a.pth", out, where="card", max_bytes=1_000_000)
    assert not out.exists()


def test_a_huge_directory_is_not_read(make, out):
    path = make(("a.pth", BODY))
    raw = bytearray(path.read_bytes())
    raw[-10:-6] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(raw)
    with pytest.raises(IntegrityError, match="directory has 4,294,967,280 bytes"):
        extract_member(path, "a.pth", out, where="card")


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"<html>" * 100, BODY])
def test_what_is_no_archive_is_said_so(data, tmp_path, out):
    path = tmp_path / "file.zip"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"file\.zip is not a zip archive"):
        extract_member(path, "a.pth", out, where="card")


def test_a_truncated_archive_is_no_archive(make, out):
    path = make(("a.pth", BODY))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match="not a zip archive"):
        extract_member(path, "a.pth", out, where="card")


def test_a_comment_does_not_hide_the_directory(make):
    path = make(("a.pth", BODY))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"PK\x05" * 1000
    with path.open("rb") as file:
        assert 40 < directory_bytes(file) < 100


def test_a_folder_that_cannot_be_written_is_named(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        extract_member(make(("a.pth", BODY)), "a.pth", tmp_path / "file" / "x", where="card")
