"""``securitynet scan``: verdicts, exit codes, JSON, SARIF; no torch."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from securitynet.cli.app import app
from securitynet.weights.findings import RULES

EVIL = b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."


def run(*arguments):
    return CliRunner().invoke(app, ["scan", *map(str, arguments)])


@pytest.fixture
def fine(tmp_path):
    save_file({"w": np.zeros((2, 3), np.float32)}, tmp_path / "fine.safetensors")
    return tmp_path / "fine.safetensors"


@pytest.fixture
def evil(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(EVIL)
    return tmp_path / "evil.pkl"


def test_the_exit_code_tells_whether_all_are_safe(fine, evil):
    assert run(fine).exit_code == 0
    assert run(evil).exit_code == 1
    assert run(fine, evil).exit_code == 1


def test_the_line_says_what_is_inside(fine, evil):
    done = run(fine, evil)
    first, second, evidence = done.stdout.splitlines()[:3]
    assert first.startswith("SAFE ") and "1 tensors of 6 float32" in first
    assert second.startswith("UNSAFE ")
    assert (
        evidence.strip() == "pickle at byte 2 GLOBAL imports os.system, which tensors do not need"
    )


def test_json_is_one_report_a_file(fine, evil):
    first, second = json.loads(run("--json", fine, evil).stdout)
    assert first["tensors"] == {"count": 1, "elements": 6, "dtypes": ["float32"]}
    assert (first["verdict"], first["format"], first["findings"]) == ("SAFE", "safetensors", [])
    (finding,) = second["findings"]
    assert finding["rule"] == "disallowed-import"
    assert (finding["member"], finding["offset"], finding["opcode"]) == ("pickle", 2, "GLOBAL")
    assert finding["name"] == "os.system"


def test_sarif_has_what_code_scanning_needs(fine, evil, tmp_path):
    place = tmp_path / "out.sarif"
    assert run(fine, evil, "--sarif", place).exit_code == 1
    log = json.loads(place.read_text())
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    (sarif,) = log["runs"]
    rules = sarif["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    assert all(float(rule["properties"]["security-severity"]) > 0 for rule in rules)
    assert [item["properties"]["verdict"] for item in sarif["artifacts"]] == ["SAFE", "UNSAFE"]
    (result,) = sarif["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "disallowed-import"
    assert result["level"] == "error" and "os.system" in result["message"]["text"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == evil.as_uri()
    assert place["region"] == {"startLine": 1}
    assert result["partialFingerprints"]


def test_sarif_names_files_relative_to_here(evil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("evil.pkl", evil):
        log = json.loads(run(name, "--sarif", "-").stdout)
        location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
        assert location["artifactLocation"]["uri"] == "evil.pkl"


def test_two_documents_on_one_stream_are_an_error(fine):
    assert run(fine, "--json", "--sarif", "-").exit_code != 0


def test_a_folder_is_scanned_file_by_file(fine, evil, tmp_path):
    reports = json.loads(run("--json", tmp_path).stdout)
    assert {report["verdict"] for report in reports} == {"SAFE", "UNSAFE"}


def test_a_configuration_is_no_card(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    (report,) = json.loads(run("--json", path).stdout)
    assert (report["format"], report["verdict"]) == ("json", "UNSAFE")


def test_names_cannot_act_on_the_terminal(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({}, protocol=2)[:-1] + b"0c\x1b[2J\nx\n.")
    assert "\x1b" not in run(path).stdout


def test_a_scan_imports_no_torch(fine, evil):
    code = (
        "import sys\nfrom securitynet.cli.app import app\n"
        "try:\n    app(['scan', *sys.argv[1:]])\n"
        "except SystemExit:\n    print('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(fine), str(evil)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr
