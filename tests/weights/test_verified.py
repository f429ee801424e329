"""What vouches for a file's bytes: a checksum, the hub, or nothing; from a loopback hub."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from safetensors.numpy import save_file

from securitynet.catalogue.cards import Weights
from securitynet.errors import IntegrityError, ResourceError
from securitynet.files.folders import cache_folder
from securitynet.weights.door import open_checkpoint
from securitynet.weights.verified import UNVERIFIED, first_use, in_words, unverified, verified_by

OLD, NEW = "a" * 40, "b" * 40
URL = "https://huggingface.co/timm/net.tag/resolve/main/model.safetensors"
WHERE = "timm/net.tag"


class Hub(BaseHTTPRequestHandler):
    """Redirects a file of ``server.revisions`` to its storage, as the hub does."""

    def do_GET(self):
        server, parts = self.server, self.path.split("/")
        server.asked.append(self.path)
        if parts[1] == "storage":
            content = server.stored[parts[2]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        revision = server.main if parts[4] == "main" else parts[4]
        content = server.revisions.get(revision)
        self.send_response(404 if content is None else 302)
        if content is not None:
            name = hashlib.sha256(content).hexdigest()
            server.stored.setdefault(name, content)
            self.send_header("Location", f"{server.url}/storage/{name}")
            if server.is_hub:
                self.send_header("X-Linked-ETag", f'"{name}"')
                self.send_header("X-Repo-Commit", revision)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def tensors(folder, value):
    path = folder / f"net{value}.safetensors"
    save_file({"fc.weight": np.full((4, 6), value, np.float32)}, path)
    return path.read_bytes()


@pytest.fixture
def server(loopback, monkeypatch, tmp_path):
    running = loopback(Hub)
    running.asked, running.stored, running.is_hub, running.main = [], {}, True, OLD
    running.revisions = {OLD: tensors(tmp_path, 1), NEW: tensors(tmp_path, 2)}
    monkeypatch.setenv("SECURITYNET_HUB", running.url)
    return running


def opened(weights=None):
    return open_checkpoint(weights or Weights(url=URL), folder=None, where=WHERE)


def forget_file():
    for path in (cache_folder() / "downloads").glob("first-*"):
        if path.suffix != ".json":
            path.unlink()


def test_the_hubs_sha256_vouches_for_a_file_without_a_checksum(server):
    weights = Weights(url=URL)
    assert verified_by(weights, where=WHERE) is None and "not verified yet" in in_words(
        weights, where=WHERE
    )
    done = opened()
    assert done.sha256 == hashlib.sha256(server.revisions[OLD]).hexdigest()
    assert verified_by(weights, where=WHERE) == "hub" and unverified(weights, where=WHERE) == ()
    assert done.sha256 in in_words(weights, where=WHERE)
    note = json.loads(first_use(weights).with_name(f"{first_use(weights).name}.json").read_text())
    assert (note["by"], note["revision"], note["sha256"]) == ("hub", OLD, done.sha256)


def test_what_came_first_is_fetched_again_from_its_revision(server):
    first = opened()
    server.main = NEW
    forget_file()
    assert opened().sha256 == first.sha256
    assert f"/timm/net.tag/resolve/{OLD}/model.safetensors" in server.asked


def test_a_revision_that_was_replaced_is_refused(server):
    opened()
    server.revisions[OLD] = server.revisions[NEW]
    forget_file()
    with pytest.raises(IntegrityError, match="sha256"):
        opened()


def test_bytes_that_are_not_what_the_hub_says_are_refused(server):
    good = server.revisions[OLD]
    name = hashlib.sha256(good).hexdigest()
    server.stored[name] = server.revisions[NEW]
    with pytest.raises(IntegrityError):
        opened()
    assert verified_by(Weights(url=URL), where=WHERE) is None


def test_a_server_that_names_no_sha256_is_believed_once_and_said_so(server):
    server.is_hub = False
    weights = Weights(url=URL)
    done = opened()
    assert verified_by(weights, where=WHERE) is None
    assert unverified(weights, where=WHERE) == (UNVERIFIED,)
    said = in_words(weights, where=WHERE)
    assert "published by nobody" in said and done.sha256 in said
    server.main = NEW
    forget_file()
    with pytest.raises(IntegrityError):
        opened()


def test_another_server_is_no_hub_whatever_it_says(server, monkeypatch):
    monkeypatch.setenv("SECURITYNET_HUB", "http://127.0.0.1:9")
    weights = Weights(url=f"{server.url}/timm/net.tag/resolve/main/model.safetensors")
    opened(weights)
    assert verified_by(weights, where=WHERE) is None
    assert "published by nobody" in in_words(weights, where=WHERE)


def test_a_file_that_is_gone_is_one_line(server):
    server.main = "c" * 40
    with pytest.raises(ResourceError, match="HTTP 404"):
        opened()


@pytest.mark.parametrize(
    ("weights", "by", "said"),
    [
        (Weights(url=URL, checksum="a" * 64, checksum_algorithm="sha256"), "sha256",
         "a published sha256"),
        (Weights(url=URL, checksum="a" * 64), "sha256", "a published sha256"),
        (Weights(url=URL, checksum="0123abcd", checksum_algorithm="sha256-prefix"),
         "sha256-prefix", "the first 8 digits"),
        (Weights(url=URL, checksum="a" * 32, checksum_algorithm="md5"), "md5", "published md5"),
        (Weights(path="net.pth"), None, "the card has no checksum"),
        (Weights(path="net.pth", checksum="a" * 64), "sha256", "a published sha256"),
    ],
)  # fmt: skip
def test_a_card_says_what_vouches(weights, by, said):
    assert verified_by(weights, where=WHERE) == by and said in in_words(weights, where=WHERE)
    assert bool(unverified(weights, where=WHERE)) == (by is None)


def test_a_file_found_by_name_in_a_mirror_is_not_verified(server, tmp_path, monkeypatch):
    opened()
    place = tmp_path / "mirror" / f"{WHERE}.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(server.revisions[NEW])
    monkeypatch.setenv("SECURITYNET_MIRROR", str(tmp_path / "mirror"))
    assert opened().sha256 == hashlib.sha256(server.revisions[NEW]).hexdigest()
    assert verified_by(Weights(url=URL), where=WHERE) is None
