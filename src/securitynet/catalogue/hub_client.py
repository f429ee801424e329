"""One way to ask the Hugging Face hub: retried, never with the user's token. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from securitynet.errors import ResourceError
from securitynet.files.hub import hub_endpoint

TIMEOUT_SECONDS = 30.0
MAX_RETRIES = 2


def ask(
    url: str, *, params: Mapping[str, Any] | None = None, etag: str | None = None, kept: str = ""
) -> tuple[Any, Any]:
    """Ask the hub for JSON; a limited rate and its own errors are waited out a few times.

    Args:
        url: Address at the hub.
        params: Of the query.
        etag: Of the answer that is known; the same one is not sent again.
        kept: Hint of the error: what is still there.

    Returns:
        The answer with its status and headers, and its JSON where the status is 200.

    Raises:
        ResourceError: If the hub cannot be reached or answers nonsense.
    """
    from huggingface_hub import errors, utils

    client: Any = utils
    client.logging.set_verbosity_error()  # it tells of every retry
    unreachable: Any = next(k for k in errors.HfHubHTTPError.__mro__ if k.__name__ == "HTTPError")
    headers = client.build_hf_headers(token=False, library_name="securitynet")
    if etag is not None:
        headers["If-None-Match"] = etag
    try:
        answer = client.http_backoff(
            "GET", url, params=params, headers=headers, timeout=TIMEOUT_SECONDS,
            max_retries=MAX_RETRIES, base_wait_time=0.5,
        )  # fmt: skip
        return answer, answer.json() if answer.status_code == 200 else None
    except (unreachable, OSError, ValueError, AttributeError) as error:  # the last: odd bodies
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise unanswered(reason, kept) from None


def unanswered(reason: str, kept: str) -> ResourceError:
    """Return the error of a hub that did not say what it was asked for."""
    return ResourceError(f"cannot list the hub: {reason}", where=hub_endpoint(), hint=kept)
