"""A room imports only lower layers, rooms of one layer never each other, and torch comes late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import securitynet

SOURCE = Path(securitynet.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
LAYERS = (
    ("errors", "records", "registry"),
    ("files", "evidence"),
    ("catalogue", "datasets", "metrics"),
    ("weights",),
    ("targets",),
    ("training", "defences"),
    ("membership", "stealing", "backdoor"),
    ("runs",),
    ("reports", "analysis"),
    ("api",),
    ("cli",),
)
LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
PACKAGE = ("__init__", "")  # the lazy public names stand above all layers
RAY_FILES = 1


def room_of(path):
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imported(tree):
    """Yield every module a file imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from names if node.module == "securitynet" else (node.module,)


def wrong_imports(room, tree):
    """Return the imports of a room that go up, sideways or to no known room."""
    targets = {name.split(".")[1] for name in imported(tree) if name.startswith("securitynet.")}
    return [
        target
        for target in targets - {room, "__version__"}
        if LAYER_OF.get(target, len(LAYERS)) >= LAYER_OF[room] and not may_see(room, target)
    ]


def may_see(room, target):
    """Single modules of the two lowest layers may use each other; folders may not."""
    return LAYER_OF.get(target) == LAYER_OF[room] == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_lower_layers(path):
    room = room_of(path)
    if room in PACKAGE:
        return
    assert room in LAYER_OF, f"{room} is in no layer: add it to the table above"
    assert wrong_imports(room, ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("membership", "from securitynet.stealing.knockoff import Knockoff"),
        ("files", "def f():\n    import securitynet.datasets.images"),
        ("metrics", "from securitynet import runs"),
        ("files", "from securitynet.evidence import Evidence"),
        ("cli", "import securitynet.unheard_of"),
    ],
)
def test_a_wrong_import_is_found(room, code):
    assert wrong_imports(room, ast.parse(code))


def test_a_lower_import_is_fine():
    code = "from securitynet.files.atomic import write_text\nfrom securitynet import errors"
    assert not wrong_imports("cli", ast.parse(code))


def test_ray_is_imported_in_one_file_at_most():
    having = [
        path
        for path in FILES
        if any(name.split(".")[0] == "ray" for name in imported(ast.parse(path.read_text())))
    ]
    assert len(having) <= RAY_FILES, having


def test_torch_load_is_called_once_in_the_room_of_the_door():
    calls = [
        (room_of(path), {word.arg for word in node.keywords})
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert [room for room, _ in calls] == ["weights"]
    assert "weights_only" in calls[0][1]


@pytest.mark.parametrize(
    "code",
    [
        "import securitynet",
        "import securitynet.cli.app",
        "from securitynet.registry import methods; assert methods()",
        "from securitynet.catalogue.database import all_cards; assert all_cards()",
    ],
)
def test_looking_around_loads_no_torch(code):
    probe = f"{code}\nimport sys\nprint('torch' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("False False", 0), done.stderr


@pytest.mark.parametrize("room", ["membership", "stealing", "backdoor"])
def test_method_modules_import_no_engine_at_the_top(room):
    """An import at the top of a method module would slow down every ``list methods``."""
    heavy = {"torch", "sklearn", "scipy", "torchvision", "timm"}
    for path in (SOURCE / room).glob("[!_]*.py"):
        top = ast.Module(
            [n for n in ast.parse(path.read_text()).body if not isinstance(n, ast.If)], []
        )
        found = {name.split(".")[0] for name in imported_at_top(top)} & heavy
        assert not found, f"{path.name} imports {found} at the top"


def imported_at_top(tree):
    body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imported(ast.Module(body, []))
