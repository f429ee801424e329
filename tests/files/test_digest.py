"""Checksums against known values, and the search of the mirrors."""

import pytest

from securitynet.errors import UsageError
from securitynet.files import digest as module
from securitynet.files.digest import digest, digest_once, find_in_mirrors, matches

ABC = {
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "git-blob-sha1": "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
}


@pytest.fixture
def abc(tmp_path):
    path = tmp_path / "mirror" / "sub" / "abc"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"abc")
    return path


@pytest.mark.parametrize("algorithm", ABC)
def test_known_checksums(algorithm, abc):
    assert digest(abc, algorithm) == ABC[algorithm]
    assert matches(abc, ABC[algorithm].upper(), algorithm)
    assert not matches(abc, ABC[algorithm][:-1] + "0", algorithm)
    assert not matches(abc, ABC[algorithm][:12], algorithm)


def test_a_prefix_needs_eight_digits(abc):
    assert matches(abc, ABC["sha256"][:8], "sha256-prefix")
    assert not matches(abc, ABC["sha256"][:7], "sha256-prefix")
    assert not matches(abc, "", "sha256-prefix")
    assert not matches(abc, "0" * 8, "sha256-prefix")


def test_an_unknown_algorithm_is_refused(abc):
    with pytest.raises(UsageError, match="crc32"):
        digest(abc, "crc32")


def test_a_changed_file_is_read_again(abc):
    before = digest_once(abc)
    abc.write_bytes(b"abcd")
    assert digest_once(abc) == digest(abc) != before


def test_mirrors_are_searched_by_size_first(abc, monkeypatch):
    (abc.parent / "other").write_bytes(b"other")
    (abc.parent / "dangling").symlink_to("nowhere")
    monkeypatch.setenv("SECURITYNET_MIRROR", f"{abc.parents[2] / 'none'}:{abc.parents[1]}")
    read = []
    monkeypatch.setattr(module, "digest_once", lambda p, a: read.append(p.name) or digest(p, a))
    assert find_in_mirrors(ABC["sha1"], "sha1", 3) == abc
    assert read == ["abc"]
    assert find_in_mirrors(ABC["sha1"], "sha1", 4) is None
    assert find_in_mirrors(ABC["sha256"][:9], "sha256-prefix", None) == abc
    assert find_in_mirrors("0" * 64, "sha256", None) is None
