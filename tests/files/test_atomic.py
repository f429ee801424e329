"""Atomic writes: whole or not at all, and readable as any other file of the user."""

import os

import pytest

from securitynet.errors import ResourceError
from securitynet.files.atomic import write_atomic, write_text


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("keep_existing", [False, True])
def test_files_have_the_permissions_that_the_user_wants(umask, keep_existing, tmp_path):
    path = tmp_path / "page.html"
    write_atomic(path, lambda file: file.write(b"<p>"), keep_existing=keep_existing)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert os.umask(umask) == umask  # as it was


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    write_text(path, "old")

    def fail(file):
        file.write(b"half")
        raise KeyError

    with pytest.raises(KeyError):
        write_atomic(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_first_writer_wins_where_asked(tmp_path):
    path = tmp_path / "deep" / "record.json"
    assert write_atomic(path, lambda file: file.write(b"first"), keep_existing=True)
    assert not write_atomic(path, lambda file: file.write(b"second"), keep_existing=True)
    assert path.read_text() == "first"
    assert write_atomic(path, lambda file: file.write(b"third"))
    assert path.read_text() == "third" and list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        write_text(tmp_path / "file" / "record.json", "x")
