"""Files that hold programs or code beside tensors, and texts that make a loader run some."""

from __future__ import annotations

import json
import re
import zipfile
from typing import BinaryIO, cast

from securitynet.weights.bundles import Visit, container
from securitynet.weights.findings import Contents, Finding, Tensors, printable, unknown
from securitynet.weights.keras_file import LAMBDAS, entries
from securitynet.weights.zipped import ZIP_ERRORS, open_zip, zip_damage

MAX_TEXT_BYTES = 6 * 2**20
NATIVE = re.compile(r".*\.(so|dll|dylib|o|a|cpp|cu|cubin|ptx|hsaco|exe|pyd|pyc)(\.\d+)*", re.I)
SOURCE = re.compile(r".*\.(py|pyi|sh|bat|ps1|js|ipynb)", re.I)
IS_PICKLED = re.compile(r".*\.(pt|pth|pkl|pickle|bin|npy|npz)", re.I)
REMOTE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Entries of a hub repository's configuration that name code beside it."""


def check_pt2(file: BinaryIO, visit: Visit) -> Contents:
    """Check a ``torch.export`` archive: the tensors beside the program, and native code."""
    try:
        with open_zip(file) as archive:
            findings = container(file, archive)
            for item in [] if findings else archive.infolist():
                findings += _part(archive, item, visit)
    except ZIP_ERRORS as error:
        return Contents([zip_damage(error)])
    whole = unknown("a torch.export program: what its graph does is not decided")
    return Contents([*findings[:20], whole])


def _part(archive: zipfile.ZipFile, item: zipfile.ZipInfo, visit: Visit) -> list[Finding]:
    if NATIVE.fullmatch(item.filename):
        return [Finding(what="is native code", member=printable(item.filename))]
    if not IS_PICKLED.fullmatch(item.filename):
        return []
    with archive.open(item) as stream:
        return visit(cast(BinaryIO, stream), item.filename, item.file_size).findings


def check_json(file: BinaryIO) -> Contents:
    """Check a configuration: does it make a loader run code?"""
    file.seek(0)
    data = file.read(MAX_TEXT_BYTES + 1)
    try:
        if len(data) > MAX_TEXT_BYTES:
            raise ValueError("it is too large")
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        return Contents([unknown(f"no JSON that can be read: {printable(str(error), 80)}")])
    findings = []
    for entry in entries(config):
        named = [key for key in REMOTE if entry.get(key)]
        findings += [Finding(what=f"{key} names code that a loader would fetch and run: "
                             f"{printable(str(entry[key]), 80)}") for key in named]  # fmt: skip
        if entry.get("class_name") in LAMBDAS:
            findings.append(Finding(what="holds a Lambda layer: code that loading would run"))
    return Contents(findings[:20], None if findings else Tensors())


def check_text(file: BinaryIO, name: str) -> Contents:
    """Check a text: is it source code, or YAML that makes Python objects?"""
    file.seek(0)
    data = file.read(MAX_TEXT_BYTES + 1)
    tag = re.search(rb"!!python/[\w/:.]+|!<tag:yaml\.org,2002:python/[\w/:.]+", data)
    if tag is not None:
        shown = printable(tag[0].decode("ascii"), 80)
        return Contents([Finding(what=f"YAML that makes Python objects: {shown}",
                                 offset=tag.start())])  # fmt: skip
    if SOURCE.fullmatch(name) or data.startswith(b"#!"):
        return Contents([unknown("is source code: what it does is not decided")])
    if len(data) > MAX_TEXT_BYTES:
        return Contents([unknown("a text of over 6 MB")])
    return Contents()
