"""Public files -> facts: Markdown, Python tables and archives read as text, never executed."""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from securitynet.errors import IntegrityError
from securitynet.files.git import FILE, blob_id, tree_id

MAX_MEMBER = 4 << 20
RECORDS = "model_info/"
RECORDS_TREE = "695c71b4a9779f2fe74346563003d57688ba3aa6"
"""Git id of RobustBench's folder of model records, at the pinned commit."""
ZOO = {
    "cifar10": "ac6a5a0b88dd6f1e024da311ffb3a4b3276aa997",
    "cifar100": "941382613867c9463ff01ccf35f0e8180962b4b1",
    "imagenet": "b410956d76cad4df9bec4d6406f78dc914053d25",
}
"""Data set -> git id of the module with its zoo tables."""
ZOO_FOLDER = "robustbench/model_zoo/"
ZOO_TABLES = ("linf", "l2", "common_corruptions")
CHECKPOINTS_TREE = "afe270f2faccdb143569ab0863f9e8e7d37a5c83"
"""Git id of the root of IVRL/AdversaryLossLandscape, at the pinned commit."""
CHANGED = "the repository's history was rewritten, or the server answered with another commit"
_LINK = re.compile(r"\[([0-9.]+)\]\(https://[^)\s]+/(\w+?)_(l2|linf)_eps([0-9.]+)\.ckpt\?[^)]*\)")


def robustbench_records(archive: bytes) -> str:
    """Return the model records of RobustBench's archive as one JSON object, by path.

    Raises:
        IntegrityError: If the folder's git id is not the pinned one.
    """
    found = {name.removeprefix(RECORDS): content for name, content in _members(archive, RECORDS)}
    _expect(tree_id({name: (FILE, blob_id(content)) for name, content in found.items()}),
            RECORDS_TREE, RECORDS)  # fmt: skip
    named = sorted(name for name in found if name.endswith(".json"))
    return _text({name: json.loads(found[name]) for name in named})


def robustbench_zoo(archive: bytes) -> str:
    """Return the zoo tables of RobustBench's archive as a JSON list, one entry a model.

    Raises:
        IntegrityError: If a file's git id is not the pinned one.
    """
    files = dict(_members(archive, ZOO_FOLDER))
    entries: list[dict[str, Any]] = []
    for dataset, blob in ZOO.items():
        name = f"{ZOO_FOLDER}{dataset}.py"
        _expect(blob_id(files.get(name, b"")), blob, name)
        entries += _zoo_entries(dataset, files[name].decode())
    return _text(entries)


def _zoo_entries(dataset: str, source: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of ``table = OrderedDict([(name, {...}), ...])`` at the top of a module."""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        table = node.targets[0]
        if not isinstance(table, ast.Name) or table.id not in ZOO_TABLES:
            continue
        for name, facts in _pairs(node.value.args[0]):
            ids = facts.get("gdrive_id")
            yield {
                "dataset": dataset, "table": table.id, "name": name,
                "gdrive_id": None if ids is None else ast.literal_eval(ids),
                "architecture_expression": ast.unparse(facts["model"]),
            }  # fmt: skip


def _pairs(node: ast.expr) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    for item in node.elts if isinstance(node, ast.List) else ():
        name, facts = item.elts if isinstance(item, ast.Tuple) else (item, None)
        if isinstance(name, ast.Constant) and isinstance(facts, ast.Dict):
            keys = (key.value for key in facts.keys if isinstance(key, ast.Constant))
            yield str(name.value), dict(zip(map(str, keys), facts.values, strict=True))


def transfer_records(readme: bytes) -> str:
    """Return the checkpoints that the README's tables link, as a JSON list.

    The accuracies are its percentages as shares; a budget in the Linf norm is over 255.
    """
    records = [
        {
            "file": f"{architecture}_{norm}_eps{eps}.ckpt", "architecture": architecture,
            "norm": norm, "eps": float(eps) if norm == "l2" else f"{eps}/255",
            "top1": round(float(percent) / 100, 4),
        }
        for percent, architecture, norm, eps in _LINK.findall(readme.decode())
    ]  # fmt: skip
    return _text(records)


def checkpoint_blobs(answer: bytes) -> str:
    """Return the lines ``blob path`` of the checkpoints in GitHub's listing of a tree.

    Raises:
        IntegrityError: If the listing is not of the pinned tree.
    """
    try:
        entries = [item for item in json.loads(answer)["tree"] if item["type"] != "tree"]
        files = {str(item["path"]): (str(item["mode"]), str(item["sha"])) for item in entries}
        found = tree_id(files)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"not the listing of a tree: {error}", hint=CHANGED) from None
    _expect(found, CHECKPOINTS_TREE, "the listing")
    names = sorted(path for path in files if path.endswith(".ckpt"))
    return "".join(f"{files[path][1]} {path}\n" for path in names)


def _members(archive: bytes, below: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a repository's archive below a folder, by path in the repository."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for item in opened.infolist():
                name = item.filename.partition("/")[2]  # all lie in one folder, named by the commit
                if name.startswith(below) and not item.is_dir() and item.file_size <= MAX_MEMBER:
                    yield name, opened.read(item)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise IntegrityError(f"not an archive: {error}", hint=CHANGED) from None


def _expect(found: str, pinned: str, what: str) -> None:
    if found != pinned:
        raise IntegrityError(
            f"{what} has the git id {found[:12]} instead of {pinned[:12]}", hint=CHANGED
        )


def _text(value: list[dict[str, Any]] | Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
