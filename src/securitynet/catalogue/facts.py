"""The public files behind the tables, at pinned commits: what ``--fetch`` brings. No torch.

A folder of facts holds what no package carries. Each file of it is a public file as it is, or is
made of one by `facts_read`; either way its bytes are checked against what is pinned here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from securitynet.catalogue import facts_read
from securitynet.catalogue.generators import adversary_loss_landscape as ivrl
from securitynet.catalogue.generators import robust_models_transfer as transfer
from securitynet.catalogue.generators import robustbench, timm_results
from securitynet.errors import IntegrityError, ResourceError
from securitynet.files.atomic import write_atomic
from securitynet.files.download import download
from securitynet.files.folders import cache_folder
from securitynet.records import fingerprint

RAW = "https://raw.githubusercontent.com"
MAX_BYTES = 64 << 20
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class PublicFile:
    """One file of a folder of facts, and the public file that it is or is made of.

    Attributes:
        name: Path in the folder.
        repository: GitHub repository.
        revision: Its commit.
        url: Address of the public file.
        sha256: Of the public file; ``None`` where the server makes it anew each time: then
            ``read`` checks the git ids of what is in it.
        read: Makes the file's text of the public file's bytes; ``None`` = it is that file.
        licence: SPDX id of the repository.
    """

    name: str
    repository: str
    revision: str
    url: str
    sha256: str | None = None
    read: Callable[[bytes], str] | None = None
    licence: str = "MIT"


TIMM = {
    "benchmark-infer-amp-nchw-pt291-cu128-4090.csv":
        "7ef180f30bfcf3271aed993ddff2114c88a83b58e6f7e56acbd76e702e6f3136",
    "results-imagenet.csv":
        "30972bf7c7ab451bbd4480ec6116b13d0a84441c57bbc946896fd312264acfcd",
    "results-imagenet-a.csv":
        "89471dcea0cd98b56211e2b808cb6bbf7b3c8bb4fe691ba58fec1f198e3fcf91",
    "results-imagenet-r.csv":
        "2dcc1f3dea098ffc1080ad04309b11477646f6f25837b041ce6075610f863209",
    "results-imagenet-real.csv":
        "e94696aed665475e4d0235195733775c5e1b3f36d6f5f7de99f4386e7ed11630",
    "results-imagenetv2-matched-frequency.csv":
        "1d066d8897c40224b14f3cf1d02029c49ebdc56b761ba9a3841bd3bdd3bd0a8e",
    "results-sketch.csv":
        "f3176de38d4a26aa808b3d0cc1fee4261268d70b2be7c9d43e65cb03b3864f46",
}  # fmt: skip
"""Result table of timm's repository -> sha256."""


def _timm(name: str, sha256: str) -> PublicFile:
    repository, revision = "huggingface/pytorch-image-models", timm_results.REVISION
    url = f"{RAW}/{repository}/{revision}/results/{name}"
    return PublicFile(f"timm/{name}", repository, revision, url, sha256, licence="Apache-2.0")


def _robustbench(name: str, read: Callable[[bytes], str]) -> PublicFile:
    repository, revision = "RobustBench/robustbench", robustbench.REVISION
    url = f"https://codeload.github.com/{repository}/zip/{revision}"
    return PublicFile(f"robustbench/{name}", repository, revision, url, read=read)


FILES = (
    *(_timm(name, sha256) for name, sha256 in TIMM.items()),
    _robustbench("model_info.json", facts_read.robustbench_records),
    _robustbench("zoo.json", facts_read.robustbench_zoo),
    PublicFile(
        transfer.FACTS, "microsoft/robust-models-transfer", transfer.README,
        f"{RAW}/microsoft/robust-models-transfer/{transfer.README}/README.md",
        "62a78cc66050c7e8c9577db89a0f74cc8c54fafbb1446ea4dc3595cef8e3ae66",
        facts_read.transfer_records,
    ),
    PublicFile(
        ivrl.BLOBS, ivrl.REPOSITORY, ivrl.COMMIT,
        f"https://api.github.com/repos/{ivrl.REPOSITORY}/git/trees/{ivrl.COMMIT}?recursive=1",
        read=facts_read.checkpoint_blobs,
    ),
)  # fmt: skip
"""Everything that the generators read, but for the published Markdown: see `NOT_PUBLIC`."""
NOT_PUBLIC = {
    "published_database.md": "the SecurityNet authors' table: the commits of their repository that "
    "are known here do not hold it, so there is no address to pin; its rows ship as paper.csv and "
    "leads.csv",
}
"""File -> why no address is known for it."""


def facts_folder() -> Path:
    """Return the folder in the cache that :func:`fetch` fills."""
    return cache_folder() / "facts"


def fetch(own: Path | None, progress: Progress) -> tuple[Path, list[ResourceError]]:
    """Fill the cache's folder of facts: with the user's own file if there is one, else the public.

    Args:
        own: Folder of facts of the user's; ``None`` = none.
        progress: Told the share done and a few words.

    Returns:
        The folder, and what could not be had, an error each.

    Raises:
        IntegrityError: If a public file is not what is pinned.
    """
    failed = []
    for i, item in enumerate(FILES):
        progress(i / len(FILES), item.name)
        place = facts_folder() / item.name
        try:
            content = _content(item, own)
        except ResourceError as error:
            place.unlink(missing_ok=True)
            failed.append(error)
            continue
        write_atomic(place, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return facts_folder(), failed


def _content(item: PublicFile, own: Path | None) -> bytes:
    mine = None if own is None else own / item.name
    if mine is not None and mine.is_file():
        return mine.read_bytes()
    place = facts_folder() / "public" / fingerprint(item.url)[:32]
    if item.sha256 is None and place.is_file() and item.read is not None:
        try:  # the server's file has no checksum, but what is in it has: no need to ask again
            return item.read(place.read_bytes()).encode()
        except IntegrityError:
            place.unlink()
    download(item.url, place, checksum=item.sha256, max_bytes=MAX_BYTES)
    content = place.read_bytes()
    try:
        return content if item.read is None else item.read(content).encode()
    except IntegrityError as error:
        place.unlink()
        raise IntegrityError(error.what, where=item.url, hint=error.hint) from None
