"""The bounds of the house style: on rot, not a goal. A shorter design beats a compliant one."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

import securitynet

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(securitynet.__file__).parent
TREES = {
    str(path.relative_to(SOURCE)): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
MEDIAN_LINES, P99_LINES, MAX_LINES, MODULE_LINES = 9, 70, 80, 400
MAX_DEPTH = 2
MAX_BYTES = 1_000_000
BROAD_EXCEPT = ("cli/", "registry.py", "runs/work.py")
BANNED_MODULES = {"utils", "util", "helpers", "helper", "misc", "common_utils"}
BANNED_CLASSES = re.compile(r"^_?Base[A-Z]|Manager$")

# In parts, so that this file does not hold what it forbids.
HOSTS = (
    "py" + "pi.org",
    "pythonhosted" + ".org",
    "conda" + ".anaconda.org",
    "download.py" + "torch",
)
MACHINE_PATH = re.compile(rb"(?<![\w.~])/(?:root|home|Users|work)/[\w.-]+")


def body_lines(node):
    """Count a function's lines, its docstring apart."""
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    has_docstring = ast.get_docstring(node) is not None
    return lines - (first.end_lineno - first.lineno + 1 if has_docstring else 0)


def functions():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                yield f"{name}: {node.name}", body_lines(node)


def test_functions_are_short():
    lengths = dict(functions())
    too_long = {name: n for name, n in lengths.items() if n > MAX_LINES}
    assert not too_long
    assert statistics.median(lengths.values()) <= MEDIAN_LINES
    assert statistics.quantiles(lengths.values(), n=100)[98] <= P99_LINES


def test_the_docstring_is_not_counted():
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    assert body_lines(ast.parse(source).body[0]) == 2


def test_modules_are_short():
    lengths = {name: tree.body[-1].end_lineno for name, tree in TREES.items() if tree.body}
    assert not {name: n for name, n in lengths.items() if n > MODULE_LINES}


def depths(trees):
    """Return the inheritance depth of every class; exceptions and torch modules apart."""
    bases = {
        node.name: [ast.unparse(base).split("[")[0] for base in node.bases]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def depth(name):
        if name in ("object", "Protocol", "Generic") or name.endswith(("Error", "Module")):
            return 0
        return 1 + max((depth(base) for base in bases.get(name, [])), default=0)

    return {name: depth(name) for name in bases}


def test_inheritance_is_shallow():
    assert not {name: n for name, n in depths(TREES.values()).items() if n > MAX_DEPTH}


def test_deep_inheritance_is_found():
    tree = ast.parse("class A: ...\nclass B(A): ...\nclass C(B): ...\nclass D(nn.Module): ...")
    assert depths([tree]) == {"A": 1, "B": 2, "C": 3, "D": 1}


def broad_excepts(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "bare" if node.type is None else ast.unparse(node.type)
            if re.search(r"\bbare\b|\bException\b|\bBaseException\b", caught):
                yield node.lineno, caught


def test_errors_are_caught_broadly_only_at_the_boundaries():
    found = {
        f"{name}:{line}": caught
        for name, tree in TREES.items()
        for line, caught in broad_excepts(tree)
        if caught == "bare" or not name.startswith(BROAD_EXCEPT)
    }
    assert not found


def test_a_broad_except_is_found():
    source = (
        "try:\n    f()\nexcept (ValueError, Exception):\n    pass\ntry:\n    f()\nexcept:\n    pass"
    )
    assert [line for line, _ in broad_excepts(ast.parse(source))] == [3, 7]


def undocumented(tree):
    """Yield public classes and functions without a docstring, of modules and of classes."""
    for node in tree.body:
        if isinstance(node, FUNCTIONS | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{name}" for name in undocumented(node))


@pytest.mark.parametrize("name", TREES)
def test_public_names_have_docstrings(name):
    assert ast.get_docstring(TREES[name]), "the module has none"
    assert list(undocumented(TREES[name])) == []


def test_names_say_what_a_thing_is():
    parts = {part for name in TREES for part in Path(name).with_suffix("").parts}
    assert not {part.strip("_") for part in parts} & BANNED_MODULES
    classes = [n.name for t in TREES.values() for n in ast.walk(t) if isinstance(n, ast.ClassDef)]
    assert not [name for name in classes if BANNED_CLASSES.search(name)]


@pytest.fixture(scope="module")
def committed():
    """Return what is committed or about to be: tracked files and those not ignored."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_committed_files_are_small(committed):
    assert not [str(path) for path in committed if path.stat().st_size > MAX_BYTES]


def test_no_registry_and_no_machine_is_named(committed):
    found = {}
    for path in committed:
        content = path.read_bytes()
        hits = [host for host in HOSTS if host.encode() in content]
        hits += [match.decode() for match in MACHINE_PATH.findall(content)]
        if hits:
            found[str(path.relative_to(ROOT))] = sorted(set(hits))
    assert not found


def test_there_is_one_lock(committed):
    names = {path.name for path in committed}
    assert "requirements.lock" in names
    assert not names & {"uv" + ".lock", "poetry.lock", "Pipfile.lock"}
