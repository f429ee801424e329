"""Nothing in the package opens foreign pickles or runs foreign code but the door's child."""

import ast
from pathlib import Path

import pytest

import securitynet

SOURCE = Path(securitynet.__file__).parent
BANNED_MODULES = {
    "joblib", "dill", "cloudpickle", "marshal", "shelve", "_pickle", "h5py", "keras", "tensorflow",
    "runpy", "code", "pty",
}  # fmt: skip
BANNED_CALLS = {
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.export.load",
    "torch.package.PackageImporter", "torch.utils.model_zoo.load_url", "torch.classes.load_library",
    "torch.ops.load_library", "pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "__import__", "builtins.eval",
    "builtins.exec", "pandas.read_pickle", "pd.read_pickle", "os.system", "os.popen",
    "np.fromregex", "tarfile.extractall", "shutil.unpack_archive",
}  # fmt: skip
BANNED_METHODS = {"extractall", "extract", "load_state_dict_from_url", "read_pickle"}
"""Archives never decide where anything is written; and other libraries' own unsafe loaders."""


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
            found += [(node.lineno, name)] if name.split(".")[-1] in BANNED_METHODS else []
            found += [(node.lineno, "shell")] if "shell" in keywords else []
            if ast.unparse(keywords.get("pretrained", ast.Constant(False))) == "True":
                found.append((node.lineno, "pretrained"))
            if ast.unparse(keywords.get("weights_only", ast.Constant(True))) != "True":
                found.append((node.lineno, "weights_only"))
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


HIDDEN = {
    "torch": {"load", "hub", "jit"}, "torch.serialization": {"load"}, "torch.jit": {"load"},
    "torch.hub": {"load"}, "pickle": {"load", "loads", "Unpickler"}, "numpy": {"load"},
    "yaml": {"load", "unsafe_load", "full_load"}, "os": {"system", "popen"},
}  # fmt: skip
"""Names that must not be imported from a module: a call of them would have no telling name."""


def renamed(source):
    """Return every import or attribute that gives a forbidden call another name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            named = {alias.name for alias in node.names}
            found += sorted(HIDDEN.get(node.module or "", set()) & named)
        if isinstance(node, ast.Import):
            odd = [a.name for a in node.names if a.name in HIDDEN and a.asname not in (None, "np")]
            found += odd
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            found += [ast.unparse(node)] if "'load'" in ast.unparse(node) else []
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in BANNED_CALLS | {
            "torch.load"
        }:
            found.append(ast.unparse(node))
    return found


def test_no_forbidden_call_has_another_name():
    assert not {name: renamed(text) for name, text in sources().items() if renamed(text)}


@pytest.mark.parametrize(
    "source",
    [
        "from torch import load", "import torch as t", "from torch.serialization import load as x",
        "getattr(torch, 'load')(p)", "f = torch.load", "from pickle import loads", "f = eval",
        "from numpy import load",
    ],
)  # fmt: skip
def test_another_name_is_found(source):
    assert renamed(source)


def test_nothing_else_opens_foreign_code():
    assert not {name: offences(text) for name, text in sources().items() if offences(text)}


@pytest.mark.parametrize(
    "source",
    [
        "np.load(p)", "np.load(p, allow_pickle=True)", "eval(x)", "import joblib",
        "from dill import load", "torch.hub.load(a, b)", "f(trust_remote_code=True)",
        "torch.load(p, weights_only=False)", "build(pretrained=True)", "archive.extractall(p)",
        "subprocess.run(x, shell=True)", "yaml.unsafe_load(x)", "torch.export.load(p)",
    ],
)  # fmt: skip
def test_an_offence_is_found(source):
    assert offences(source)


def test_np_load_without_pickles_is_fine():
    assert offences("np.load(p, allow_pickle=False)") == []
