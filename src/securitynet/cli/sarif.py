"""Scan reports as SARIF 2.1.0, the format that code-scanning services read.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", 2020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from securitynet.weights.findings import RULES, Finding
from securitynet.weights.inspect import ScanReport

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"danger": "error", "damage": "warning", "unknown": "warning"}
SEVERITY = {
    "disallowed-import": "9.8", "code-or-trick": "9.0", "damaged": "4.0", "undecided": "5.0",
}  # fmt: skip
"""What code-scanning services sort by, on the scale of CVSS."""
HELP = "Do not open the file with torch.load or pickle; ask its author for safetensors."


def to_sarif(reports: Sequence[ScanReport], *, version: str) -> dict[str, Any]:
    """Return one run with a result for every finding; safe files are listed as artifacts only.

    Args:
        reports: What a scan found.
        version: Version of SecurityNet.
    """
    driver = {
        "name": "SecurityNet scan",
        "version": version,
        "rules": [_rule(name) for name in RULES],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "utf16CodeUnits",
        "artifacts": [_artifact(report) for report in reports],
        "results": [
            _result(report, index, finding)
            for index, report in enumerate(reports)
            for finding in report.findings
        ],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str) -> dict[str, Any]:
    level = "error" if name in ("disallowed-import", "code-or-trick") else "warning"
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "shortDescription": {"text": RULES[name]},
        "fullDescription": {"text": RULES[name]},
        "help": {"text": HELP},
        "defaultConfiguration": {"level": level},
        "properties": {"tags": ["security"], "security-severity": SEVERITY[name]},
    }


def _uri(path: str) -> str:
    """Return a path relative to here where it lies below: services match it with the checkout."""
    place = Path(path)
    if place.is_absolute() and place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return place.as_uri() if place.is_absolute() else quote(place.as_posix())


def _artifact(report: ScanReport) -> dict[str, Any]:
    properties = {"verdict": report.verdict, "format": report.format}
    found: dict[str, Any] = {"location": {"uri": _uri(report.path)}, "properties": properties}
    if report.sha256 is not None:
        found |= {"length": report.bytes, "hashes": {"sha-256": report.sha256}}
    return found


def _result(report: ScanReport, index: int, finding: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(report.path), "index": index},
            "region": {"startLine": 1},  # services want a line even of a binary file
        }
    }
    if finding.member:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.member, "kind": "member"}]
    what = hashlib.sha256(f"{report.sha256} {finding}".encode()).hexdigest()
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": LEVELS[finding.kind],
        "message": {"text": f"{report.verdict}: {finding}"},
        "locations": [location],
        "partialFingerprints": {"finding/v1": what},
        "properties": {
            "member": finding.member, "offset": finding.offset, "opcode": finding.opcode,
            "name": finding.name,
        },
    }  # fmt: skip
