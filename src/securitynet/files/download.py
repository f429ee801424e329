"""Verified downloads: https only, size-capped, resumed, named only after the checksum fits."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files.digest import matches

MAX_BYTES = 4 * 2**30
MAX_TRIES = 4
TIMEOUT_SECONDS = 30.0
CHUNK = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ADVICE = "check the network, or put the file into a folder named by SECURITYNET_MIRROR"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to allowed addresses only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
        headers: http.client.HTTPMessage, newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(url: str) -> None:
    """Refuse addresses that are not https; plain http is for this machine's own loopback.

    Raises:
        UsageError: If the address is not allowed.
    """
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if parts.scheme != "https" and not is_local:
        raise UsageError("only https addresses are downloaded", where=url)


def download(
    url: str,
    destination: Path,
    *,
    checksum: str | None = None,
    algorithm: str = "sha256",
    max_bytes: int = MAX_BYTES,
    progress: Callable[[float, str], None] | None = None,
) -> Path:
    """Download a file; the final name appears only once it is whole and its checksum fits.

    Args:
        url: https address.
        destination: Final name; an unfinished part waits beside it as ``.part``.
        checksum: Hex digest to verify.
        algorithm: Its algorithm.
        max_bytes: Larger files are refused.
        progress: Told the share done and a few words.

    Returns:
        The destination.

    Raises:
        UsageError: If the address is not https.
        ResourceError: If the network or the disk fails, after a few tries.
        IntegrityError: If the bytes are not what they should be.
    """
    check_url(url)
    part = destination.with_name(destination.name + ".part")
    destination.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(MAX_TRIES):
        try:
            _fetch(url, part, max_bytes, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise ResourceError(f"HTTP {error.code}", where=url, hint=ADVICE) from None
            _wait(url, attempt, f"HTTP {error.code}")
        except (OSError, http.client.HTTPException) as error:
            _wait(url, attempt, str(getattr(error, "reason", error)))
    if checksum is not None and not matches(part, checksum, algorithm):
        part.unlink()
        raise IntegrityError(
            f"the downloaded file's {algorithm} is not {checksum[:16]}...",
            where=url,
            hint="the file was replaced or is an error page; it was deleted",
        )
    part.replace(destination)
    return destination


def _wait(url: str, attempt: int, reason: str) -> None:
    if attempt + 1 == MAX_TRIES:
        raise ResourceError(f"cannot download: {reason}", where=url, hint=ADVICE)
    time.sleep(0.1 * 4**attempt)


def _fetch(
    url: str, part: Path, max_bytes: int, progress: Callable[[float, str], None] | None
) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "securitynet"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - check_url has passed
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
        resumes = answer.status == 206
        total = _total(answer, have if resumes else 0)
        if total is not None and total > max_bytes:
            raise IntegrityError(f"{total:,} bytes are over the limit of {max_bytes:,}", where=url)
        with part.open("ab" if resumes else "wb") as file:
            _copy(answer, file, url, max_bytes, total, progress)
        if total is not None and part.stat().st_size != total:
            raise ConnectionError(f"got {part.stat().st_size:,} of {total:,} bytes")


def _total(answer: Any, have: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return None if length is None else have + int(length)


def _copy(
    answer: Any, file: IO[bytes], url: str, max_bytes: int, total: int | None,
    progress: Callable[[float, str], None] | None,
) -> None:  # fmt: skip
    while chunk := answer.read(CHUNK):
        file.write(chunk)
        if file.tell() > max_bytes:
            raise IntegrityError(f"more than {max_bytes:,} bytes", where=url)
        if progress is not None and total:
            progress(file.tell() / total, f"downloading {Path(urlsplit(url).path).name}")
