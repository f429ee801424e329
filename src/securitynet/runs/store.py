"""The store: immutable records and the arrays behind them, as plain files.

``results/<2 hex>/<key>.json`` holds one record; ``blobs/<2 hex>/<sha256>.npz`` holds per-sample
arrays, named by their content and written before the record that names them. Putting is atomic
and idempotent: the first writer wins. Everything else (tables, reports) is a view.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from securitynet.catalogue.database import select
from securitynet.errors import IntegrityError
from securitynet.files.atomic import write_atomic
from securitynet.records import Evaluation

FINISHED = ("ok", "skipped")


@dataclass(frozen=True)
class Store:
    """A folder of evaluation records.

    Attributes:
        folder: The store's root; made on the first put.
    """

    folder: Path

    def put(self, record: Evaluation, arrays: Mapping[str, NDArray[Any]] | None = None) -> bool:
        """Keep a record and its arrays.

        An existing ``ok`` record is never replaced; a failed or refused one is, because the
        same job was tried again.

        Returns:
            Whether this call wrote the record.

        Raises:
            ResourceError: If the disk cannot be written; earlier records stay intact.
        """
        blobs = {name: self._put_array(array) for name, array in (arrays or {}).items()}
        values = {**record.to_json(), "blobs": {**record.blobs, **blobs}}
        text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        path = self._record_path(record.key)
        earlier = self.get(record.key)
        is_retry = earlier is not None and earlier.status not in FINISHED
        return write_atomic(path, lambda f: f.write(text.encode()), keep_existing=not is_retry)

    def get(self, key: str) -> Evaluation | None:
        """Return one record, ``None`` if there is none.

        Raises:
            IntegrityError: If the record's file is damaged.
        """
        return self._read(self._record_path(key))

    def keys(self) -> Iterator[str]:
        """Yield the keys of all records, in order."""
        for path in sorted((self.folder / "results").glob("[0-9a-f][0-9a-f]/*.json")):
            yield path.stem

    def records(self) -> Iterator[Evaluation]:
        """Yield all records, in order of their keys."""
        for key in self.keys():
            record = self.get(key)
            if record is not None:
                yield record

    def find(self, prefix: str) -> list[Evaluation]:
        """Return the records whose key starts with a prefix."""
        matches = [self.get(key) for key in self.keys() if key.startswith(prefix)]
        return [record for record in matches if record is not None]

    def read_array(self, sha256: str) -> NDArray[Any]:
        """Return an array that a record names.

        Raises:
            IntegrityError: If it is missing or not what its name says.
        """
        path = self._blob_path(sha256)
        try:
            data = path.read_bytes()
        except OSError:
            raise IntegrityError("array is missing", where=path) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise IntegrityError("array is damaged", where=path, hint="delete it and run again")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return np.asarray(archive["array"])

    def problems(self) -> list[str]:
        """Check every record and every array it names; one line a problem."""
        found = []
        for key in self.keys():
            try:
                record = self.get(key)
                for sha256 in record.blobs.values() if record else ():
                    self.read_array(sha256)
            except IntegrityError as error:
                found.append(str(error))
        return found

    def collect_garbage(self) -> int:
        """Delete temporary files and arrays that no record names; return how many."""
        named = {sha256 for record in self.records() for sha256 in record.blobs.values()}
        stale = list(self.folder.rglob(".*.tmp")) if self.folder.is_dir() else []
        stale += [
            path
            for path in (self.folder / "blobs").glob("[0-9a-f][0-9a-f]/*.npz")
            if path.stem not in named
        ]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def _put_array(self, array: NDArray[Any]) -> str:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, array=array)
        data = buffer.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        write_atomic(self._blob_path(sha256), lambda f: f.write(data), keep_existing=True)
        return sha256

    def _record_path(self, key: str) -> Path:
        return self.folder / "results" / key[:2] / f"{key}.json"

    def _blob_path(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256[:2] / f"{sha256}.npz"

    def _read(self, path: Path) -> Evaluation | None:
        try:
            return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, OSError) as error:
            raise IntegrityError(
                f"damaged record: {error}", where=path, hint="delete it and run the job again"
            ) from None


def select_records(records: Iterable[Evaluation], filters: Iterable[str]) -> list[Evaluation]:
    """Return the records that match every ``FIELD=VALUE`` filter, in the order they came.

    Raises:
        UsageError: If a filter has no ``=`` or names a field that no record has.
    """
    pairs = [(record.to_json(), record) for record in records]
    record_of = {id(row): record for row, record in pairs}
    return [record_of[id(row)] for row in select([row for row, _ in pairs], filters)]


def sort_records(records: Iterable[Evaluation]) -> list[Evaluation]:
    """Order records by model, family, method and configuration."""
    families = {"mia": 0, "steal": 1, "backdoor": 2}

    def place(record: Evaluation) -> tuple[object, ...]:
        family = families.get(record.method.split(".")[0], 3)
        return record.model, family, record.method, str(sorted(record.config.items())), record.seed

    return sorted(records, key=place)
