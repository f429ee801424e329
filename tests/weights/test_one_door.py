"""Nothing in the package opens foreign pickles or runs foreign code but the door's child."""

import ast
from pathlib import Path

import pytest

import securitynet

SOURCE = Path(securitynet.__file__).parent
BANNED_MODULES = {"joblib", "dill", "cloudpickle", "marshal", "shelve"}
BANNED_CALLS = {
    "torch.hub.load", "torch.jit.load", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "yaml.load", "eval", "exec", "pandas.read_pickle", "pd.read_pickle",
}  # fmt: skip


def offences(source):
    """Return (line, what) of every forbidden call, import and setting."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [(node.lineno, n) for n in names if n.split(".")[0] in BANNED_MODULES]
        if isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
            found += [(node.lineno, name)] if name in BANNED_CALLS else []
            allows = ast.unparse(keywords.get("allow_pickle", ast.Constant(None)))
            if name in ("np.load", "numpy.load") and allows != "False":
                found.append((node.lineno, name))
            if "trust_remote_code" in keywords:
                found.append((node.lineno, "trust_remote_code"))
    return found


def loads(source):
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]


def sources():
    return {str(p.relative_to(SOURCE)): p.read_text(encoding="utf-8") for p in SOURCE.rglob("*.py")}


def test_torch_load_is_called_once_and_with_weights_only():
    found = {name: loads(text) for name, text in sources().items() if loads(text)}
    assert list(found) == ["weights/child.py"]
    (call,) = found["weights/child.py"]
    assert "weights_only=True" in call
    assert "map_location='cpu'" in call


def test_torch_load_has_no_other_name():
    for name, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                assert "load" not in {alias.name for alias in node.names}, name


def test_nothing_else_opens_foreign_code():
    assert not {name: offences(text) for name, text in sources().items() if offences(text)}


@pytest.mark.parametrize(
    "source",
    [
        "np.load(p)", "np.load(p, allow_pickle=True)", "eval(x)", "import joblib",
        "from dill import load", "torch.hub.load(a, b)", "f(trust_remote_code=True)",
    ],
)  # fmt: skip
def test_an_offence_is_found(source):
    assert offences(source)


def test_np_load_without_pickles_is_fine():
    assert offences("np.load(p, allow_pickle=False)") == []
