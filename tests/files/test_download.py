"""Downloads against a server on loopback that misbehaves in every way we have met."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files import download as module
from securitynet.files.download import check_url, download

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers by the path: each one is a fault."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range")))
        getattr(self, f"answer_{self.path.strip('/').replace('-', '_')}")()

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", declared=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if declared is None else declared))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self):
        asked = self.headers.get("Range")
        return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0

    def answer_whole(self):
        self.reply(200, BODY)

    def answer_ranges(self):
        begin = self.begin()
        if begin >= len(BODY):
            return self.reply(416)
        span = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
        return self.reply(206 if begin else 200, BODY[begin:], Content_Range=span)

    def answer_cut(self):
        """Send 4000 bytes at a time of what was promised."""
        begin = self.begin()
        span = f"bytes {begin}-{len(BODY) - 1}/{len(BODY)}"
        rest = len(BODY) - begin
        self.reply(206 if begin else 200, BODY[begin : begin + 4000], rest, Content_Range=span)

    def answer_cut_always(self):
        self.reply(200, BODY[:100], len(BODY))

    def answer_other_range(self):
        self.reply(206, BODY, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")

    def answer_flipped(self):
        self.reply(200, b"\xff" + BODY[1:])

    def answer_page(self):
        self.reply(200, b"<html>sign in</html>", Content_Type="text/html; charset=utf-8")

    def answer_busy_once(self):
        self.reply(503) if len(self.server.seen) == 1 else self.reply(200, BODY)

    def answer_broken(self):
        self.reply(500)

    def answer_missing(self):
        self.reply(404)

    def answer_away(self):
        self.reply(302, Location="http://host.invalid/file")

    def answer_near(self):
        self.reply(302, Location="/whole")

    def answer_loop(self):
        self.reply(302, Location="/loop")

    def answer_file(self):
        self.reply(302, Location="file:///etc/hostname")

    def answer_endless(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(BODY * 8)


@pytest.fixture
def server(loopback, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    server = loopback(Handler)
    server.seen = []
    return server


@pytest.fixture
def final(tmp_path):
    return tmp_path / "folder" / "file.bin"


def part(final):
    return final.with_name(final.name + ".part")


@pytest.mark.parametrize("path", ["whole", "ranges", "cut", "near", "busy-once"])
def test_what_can_be_had_is_had(path, server, final):
    shares = []
    found = download(
        f"{server.url}/{path}", final, checksum=SHA256, n_bytes=len(BODY),
        progress=lambda share, words: shares.append(share),
    )  # fmt: skip
    assert found == final
    assert final.read_bytes() == BODY
    assert not part(final).exists()
    assert shares[-1] == 1


def test_a_broken_transfer_goes_on_where_it_ended(server, final):
    download(f"{server.url}/cut", final, checksum=SHA256)
    assert [asked for _, asked in server.seen] == [None, "bytes=4000-", "bytes=8000-"]


def test_a_part_of_an_earlier_day_is_used(server, final):
    final.parent.mkdir()
    part(final).write_bytes(BODY[:5000])
    download(f"{server.url}/ranges", final, checksum=SHA256)
    assert server.seen == [("/ranges", "bytes=5000-")]


@pytest.mark.parametrize("stale", [b"x" * 5000, BODY, BODY + b"more"])
def test_a_stale_part_is_thrown_away(stale, server, final):
    final.parent.mkdir()
    part(final).write_bytes(stale)
    download(f"{server.url}/ranges", final, checksum=SHA256)
    assert final.read_bytes() == BODY


def test_a_server_without_ranges_starts_again(server, final):
    final.parent.mkdir()
    part(final).write_bytes(BODY[:5000])
    download(f"{server.url}/whole", final, checksum=SHA256)
    assert final.read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "error", "words", "n_asked"),
    [
        ("flipped", IntegrityError, "sha256 is not", 1),
        ("page", IntegrityError, "web page", 1),
        ("cut-always", ResourceError, "SECURITYNET_MIRROR", module.MAX_TRIES),
        ("broken", ResourceError, "HTTP 500", module.MAX_TRIES),
        ("missing", ResourceError, "HTTP 404.*SECURITYNET_MIRROR", 1),
        ("away", ResourceError, "redirects to an address that is not https", 1),
        ("file", ResourceError, "HTTP 302", 1),
        ("loop", ResourceError, "HTTP 302", None),
    ],
)
def test_what_is_not_the_file_is_refused(path, error, words, n_asked, server, final):
    with pytest.raises(error, match=words):
        download(f"{server.url}/{path}", final, checksum=SHA256)
    assert not final.exists()
    assert n_asked is None or len(server.seen) == n_asked


def test_another_range_than_asked_for_is_refused(server, final):
    final.parent.mkdir()
    part(final).write_bytes(BODY[:5000])
    with pytest.raises(ResourceError, match="another range"):
        download(f"{server.url}/other-range", final, checksum=SHA256)


@pytest.mark.parametrize("path", ["whole", "endless"])
def test_too_large_is_refused(path, server, final):
    with pytest.raises(IntegrityError, match="10,000"):
        download(f"{server.url}/{path}", final, max_bytes=10_000)
    assert not final.exists()
    assert not part(final).exists() or part(final).stat().st_size <= 10_000


def test_a_wrong_length_is_refused_before_it_is_fetched(server, final):
    with pytest.raises(IntegrityError, match="10,240 bytes instead of 7"):
        download(f"{server.url}/whole", final, n_bytes=7)
    assert not part(final).exists()


def test_nobody_there_is_an_error_of_the_network(server, final):
    server.server_close()
    with pytest.raises(ResourceError, match=r"cannot download.*SECURITYNET_MIRROR"):
        download("http://127.0.0.1:9/x", final)


def test_an_unwritable_folder_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        download(f"{server.url}/whole", tmp_path / "file" / "x")


def test_many_at_once_fetch_it_once(server, final):
    ask = lambda: download(f"{server.url}/whole", final, checksum=SHA256)  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert final.read_bytes() == BODY
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/hosts", "x", "http://[::1/x"]
)
def test_only_https_is_allowed(url):
    with pytest.raises(UsageError, match="only https"):
        check_url(url)


def test_https_and_loopback_are_allowed():
    check_url("https://example.org/x")
    check_url("http://localhost:80/x")
