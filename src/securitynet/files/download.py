"""Verified downloads: https only, size-capped, resumed, named only after the checksum fits."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files.digest import matches

MAX_BYTES = 4 * 2**30
MAX_TRIES = 4
TIMEOUT_SECONDS = 30.0
CHUNK = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ADVICE = "check the network, or put the file into a folder named by SECURITYNET_MIRROR"
RETRIED = (408, 416, 425, 429)
"""HTTP answers below 500 that another try may mend; 416 comes for an over-long part."""
DRIVE = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
HUB_SHA256 = "X-Linked-ETag"
"""The Hugging Face hub names a large file's sha256 here, before it redirects to its storage."""
HUB_REVISION = "X-Repo-Commit"
NOT_FILES = {
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a git-lfs pointer",
}
"""How files begin that servers send in place of what was asked for."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class HubFacts:
    """What the Hugging Face hub says of a file in the headers of its answer.

    Attributes:
        sha256: Of the file, if it is a large one.
        revision: Commit that it belongs to.
    """

    sha256: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class _Wanted:
    """What is to be fetched, and what is known of it."""

    url: str
    checksum: str | None
    algorithm: str
    n_bytes: int | None
    max_bytes: int
    progress: Progress | None
    hear: Callable[[HubFacts], None] | None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https; from loopback also to loopback. Keep the hub's checksum."""

    facts = HubFacts()

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: http.client.HTTPMessage, newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        is_local = _is_loopback(req.full_url) and _is_loopback(newurl)
        if urlsplit(newurl).scheme != "https" and not is_local:
            raise ResourceError(
                "the server redirects to an address that is not https", where=newurl, hint=ADVICE
            )
        self.facts = _hub_facts(headers, self.facts)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _hub_facts(headers: Any, known: HubFacts) -> HubFacts:
    sha256 = headers.get(HUB_SHA256, "").strip().removeprefix("W/").strip('"').lower()
    revision = headers.get(HUB_REVISION, "").strip()
    return HubFacts(
        sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else known.sha256,
        revision if re.fullmatch(r"[0-9a-f]{40}", revision) else known.revision,
    )


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK


def check_url(url: str) -> None:
    """Refuse addresses that are not https; plain http is for this machine's own loopback.

    Raises:
        UsageError: If the address is not allowed.
    """
    try:
        is_allowed = urlsplit(url).scheme == "https" or _is_loopback(url)
    except ValueError:
        is_allowed = False
    if not is_allowed:
        raise UsageError("only https addresses are downloaded", where=url)


def unreachable(url: str) -> str | None:
    """Return why nothing can be had at an address, ``None`` if something answers there.

    Only the headers are asked for. Some servers refuse that; then the body is left unread.

    Raises:
        UsageError: If the address is not https.
    """
    check_url(url)
    reason: str | None = None
    for method in ("HEAD", "GET"):
        request = urllib.request.Request(  # noqa: S310 - checked
            url, headers={"User-Agent": "securitynet"}, method=method
        )
        try:
            opener = urllib.request.build_opener(_SafeRedirects())
            with opener.open(request, timeout=TIMEOUT_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code}"
        except ResourceError as error:
            return error.what
        except (OSError, http.client.HTTPException) as error:
            return str(getattr(error, "reason", error))
    return reason


def download(
    url: str,
    destination: Path,
    *,
    checksum: str | None = None,
    algorithm: str = "sha256",
    n_bytes: int | None = None,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
    hear: Callable[[HubFacts], None] | None = None,
) -> Path:
    """Download a file; the final name appears only once it is whole and its checksum fits.

    Processes that ask for the same destination wait for each other and fetch it once.

    Without a checksum the file is checked against the sha256 that the hub's answer names, if any.

    Args:
        url: https address.
        destination: Final name; an unfinished part waits beside it as ``.part``.
        checksum: Hex digest to verify.
        algorithm: Its algorithm.
        n_bytes: Length that the file must have, if known.
        max_bytes: Larger files are refused.
        progress: Told the share done and a few words.
        hear: Told what the hub says of a file that was downloaded and is right.

    Returns:
        The destination.

    Raises:
        UsageError: If the address is not https.
        ResourceError: If the network or the disk fails, after a few tries.
        IntegrityError: If the bytes are not what they should be.
    """
    check_url(url)
    wanted = _Wanted(url, checksum, algorithm, n_bytes, max_bytes, progress, hear)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone(destination):
            if not _is_there(destination, wanted):
                _fetch_verified(wanted, destination)
    except OSError as error:
        raise ResourceError(
            f"cannot write: {error.strerror or error}",
            where=destination,
            hint="free some disk space or set SECURITYNET_CACHE to another folder",
        ) from error
    return destination


@contextlib.contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Hold the destination's lock; the kernel lets go of it when a process dies."""
    with destination.with_name(f".{destination.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_there(path: Path, wanted: _Wanted) -> bool:
    if wanted.checksum is None or not path.is_file():
        return False
    return matches(path, wanted.checksum, wanted.algorithm)


def _fetch_verified(wanted: _Wanted, destination: Path) -> None:
    """Fetch; if a part from an earlier day spoilt the file, once more from the start."""
    part = destination.with_name(destination.name + ".part")
    is_resumed = part.exists()
    facts = _fetch_patiently(wanted, part)
    if wanted.checksum is None and facts.sha256 is not None:
        wanted = replace(wanted, checksum=facts.sha256, algorithm="sha256")
    if is_resumed and not _is_right(part, wanted):
        part.unlink()
        _fetch_patiently(wanted, part)
    if not _is_right(part, wanted):
        part.unlink()
        raise IntegrityError(
            f"the downloaded file's {wanted.algorithm} is not {str(wanted.checksum)[:16]}...",
            where=wanted.url,
            hint="the file was replaced or is an error page; it was deleted",
        )
    part.replace(destination)
    if wanted.hear is not None:
        wanted.hear(facts)


def _is_right(part: Path, wanted: _Wanted) -> bool:
    return wanted.checksum is None or matches(part, wanted.checksum, wanted.algorithm)


def _fetch_patiently(wanted: _Wanted, part: Path) -> HubFacts:
    for attempt in range(MAX_TRIES):
        try:
            return _fetch(wanted, part)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in RETRIED:
                raise ResourceError(f"HTTP {error.code}", where=wanted.url, hint=ADVICE) from None
            if error.code == 416:
                part.unlink(missing_ok=True)
            _wait(wanted.url, attempt, f"HTTP {error.code}")
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError,
                ConnectionError) as error:  # fmt: skip
            _wait(wanted.url, attempt, str(getattr(error, "reason", error)))
    return HubFacts()


def _wait(url: str, attempt: int, reason: str) -> None:
    if attempt + 1 == MAX_TRIES:
        raise ResourceError(f"cannot download: {reason}", where=url, hint=ADVICE)
    time.sleep(0.1 * 4**attempt)


def _asked(url: str) -> str:
    """Return the address to ask: Google Drive wants a confirmation beside a large file's id."""
    parts = urlsplit(url)
    if parts.hostname not in DRIVE or parts.path != "/uc" or "confirm=" in parts.query:
        return url
    return urlunsplit(parts._replace(query=f"{parts.query}&export=download&confirm=t"))


def _fetch(wanted: _Wanted, part: Path) -> HubFacts:
    """Fetch the rest of a file; return what the hub says of it, if it is the hub."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "securitynet"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(_asked(wanted.url), headers=headers)  # noqa: S310 - checked
    redirects = _SafeRedirects()
    opener = urllib.request.build_opener(redirects)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        resumes = _resumes(answer, have)
        total = _total(answer, have if resumes else 0)
        _check_answer(answer, total, wanted)
        facts = _hub_facts(answer.headers, redirects.facts)
        with part.open("ab" if resumes else "wb") as file:
            _copy(answer, file, wanted, total)
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"got {size:,} of {total:,} bytes")
    if wanted.n_bytes not in (None, size):
        part.unlink()
        raise IntegrityError(f"{size:,} bytes instead of {wanted.n_bytes:,}", where=wanted.url)
    _check_content(part, wanted)
    return facts


def _resumes(answer: Any, have: int) -> bool:
    """Whether the answer goes on where the part ends; some servers send another range."""
    if answer.status != 206:
        return False
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != have:
        raise ResourceError("the server sent another range", where=answer.url, hint=ADVICE)
    return True


def _total(answer: Any, have: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return have + int(length) if length.isdecimal() else None


def _check_answer(answer: Any, total: int | None, wanted: _Wanted) -> None:
    if answer.headers.get_content_type() == "text/html":
        raise _other_file("a web page", wanted.url)
    problem = None
    if total is not None and total > wanted.max_bytes:
        problem = f"{total:,} bytes are over the limit of {wanted.max_bytes:,}"
    elif total is not None and wanted.n_bytes not in (None, total):
        problem = f"{total:,} bytes instead of {wanted.n_bytes:,}"
    if problem is not None:
        raise IntegrityError(problem, where=wanted.url, hint="the address or the card is outdated")


def _check_content(part: Path, wanted: _Wanted) -> None:
    """Refuse pages and pointers that come with another type, or as a file to be saved."""
    with part.open("rb") as file:
        head = file.read(256).lstrip().lower()
    for begin, what in NOT_FILES.items():
        if head.startswith(begin):
            part.unlink()
            raise _other_file(what, wanted.url)


def _other_file(what: str, url: str) -> IntegrityError:
    if urlsplit(url).hostname in DRIVE:
        return IntegrityError(
            f"Google Drive sent {what} instead of the file: a spent quota or a question",
            where=url,
            hint="download it in a browser and put it into a folder named by SECURITYNET_MIRROR",
        )
    return IntegrityError(
        f"the server sent {what} instead of the file",
        where=url,
        hint="the address or the card is outdated",
    )


def _copy(answer: Any, file: IO[bytes], wanted: _Wanted, total: int | None) -> None:
    name = Path(urlsplit(wanted.url).path).name
    while chunk := answer.read(CHUNK):
        if file.tell() + len(chunk) > wanted.max_bytes:
            raise IntegrityError(f"more than {wanted.max_bytes:,} bytes", where=wanted.url)
        file.write(chunk)
        if wanted.progress is not None and total:
            wanted.progress(file.tell() / total, f"downloading {name}")
