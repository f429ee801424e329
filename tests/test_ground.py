"""The ground: the lock holds what is declared, the Makefile does what it says, files agree."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import securitynet

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
TARGETS = "help demo test test-long bench lint lock docs catalogue clean".split()


def locked():
    """Return name -> version of the lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", LOCK, flags=re.M)
    return {canonicalize_name(name): version for name, version in found}


def test_the_lock_holds_every_requirement():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"], "setuptools>=77"]
    pinned = locked()
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_every_locked_package_has_a_hash():
    entries = re.split(r"^(?=[A-Za-z0-9._-]+==)", LOCK, flags=re.M)[1:]
    assert len(entries) > 50
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]


def test_the_lock_names_no_host_and_no_path():
    assert "://" not in LOCK
    assert not re.search(r"--(extra-)?index-url|--find-links|(?<![\w.])/\w+/", LOCK)


def make(*arguments, cwd=ROOT):
    """Run make as a person would, not as part of the make that runs the tests."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, capture_output=True, text=True, env=environment
    )


@pytest.fixture
def fresh(tmp_path):
    """Return a folder with what the set-up needs and no environment yet."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_help_names_every_target():
    shown = make("help").stdout
    assert [t for t in TARGETS if t != "help" and f"make {t} " not in shown] == []


def test_every_target_exists(fresh):
    for target in TARGETS:
        done = make("-n", target, cwd=fresh)
        assert done.returncode == 0, done.stderr


def test_a_second_make_does_nothing(fresh):
    (fresh / ".venv").mkdir()
    (fresh / ".venv" / ".installed").touch()
    assert "is up to date" in make(".venv/.installed", cwd=fresh).stdout
    os.utime(fresh / ".venv" / ".installed", (0, 0))
    assert "uv pip install" in make("-n", ".venv/.installed", cwd=fresh).stdout


def test_an_old_python_is_named_in_one_line(fresh):
    old = fresh / "old-python"
    old.write_text(
        '#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 10, 4); '
        "sys.version = '3.10.4 (old)'; $2\"\n"
    )
    old.chmod(0o755)
    done = make(f"PYTHON={old}", "test", cwd=fresh)
    assert done.returncode != 0
    assert "SecurityNet needs Python 3.11 or newer, this is 3.10.4" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (fresh / ".venv").exists()


def test_the_gate_is_a_script_that_stops_at_the_first_failure():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in text
    assert text.rstrip().endswith("make test")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("has_lint_error", [False, True])
def test_the_gate_runs_lint_and_then_the_tests(tmp_path, has_lint_error):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    tools = tmp_path / "tools"
    tools.mkdir()
    failure = '[ "$1" = lint ] && exit 1\n' if has_lint_error else ""
    (tools / "make").write_text(f'#!/bin/sh\necho "made $1"\n{failure}exit 0\n')
    (tools / "chromium").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / ".ci" / "run"], env={"PATH": path}, capture_output=True, text=True
    )
    expected = (1, ["made lint"]) if has_lint_error else (0, ["made lint", "made test"])
    assert (done.returncode, done.stdout.splitlines()) == expected


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = {PROJECT["version"], securitynet.__version__, str(citation["version"])}
    assert len(versions) == 1
    assert f"## {versions.pop()}" in changes


def test_the_citation_names_the_paper_and_no_person():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["authors"] == [{"name": "SecurityNet contributors"}]
    assert "2310.12665" in citation["references"][0]["url"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    for section in ("1. Definitions.", "9. Accepting Warranty", "END OF TERMS AND CONDITIONS"):
        assert section in text


@pytest.mark.public
def test_a_public_test_has_a_cache_of_its_own_but_for_decoded_images():
    cache = Path(os.environ["SECURITYNET_CACHE"])
    assert (cache / "datasets").resolve() == ROOT / ".pytest_cache" / "decoded"
    assert not (cache / "outputs").is_symlink()


def test_a_test_does_not_see_the_machines_folders(tmp_path):
    assert Path(os.environ["SECURITYNET_STORE"]).parent == tmp_path
    assert Path(os.environ["SECURITYNET_CACHE"]).parent == tmp_path
    assert "SECURITYNET_DATA" not in os.environ
