"""Public files behind the tables: fetched once, checked, read as text; from a loopback server."""

import hashlib
import io
import json
import os
import subprocess
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from securitynet.catalogue import facts, facts_read, generate, tables
from securitynet.catalogue.facts import FILES, PublicFile, facts_folder, fetch
from securitynet.errors import IntegrityError
from securitynet.files.git import FILE, blob_id, tree_id

FACTS = Path(os.environ.get("SECURITYNET_FACTS") or Path(__file__).parents[3] / "shared" / "facts")
ZOO = """
import torch  # never executed
raise SystemExit("this module was executed")
linf = OrderedDict([
    ('Ada2020A', {'model': lambda: Net(depth=28), 'gdrive_id': 'abc'}),
    ('Bo2021B', {'model': lambda: Both(), 'gdrive_id': ['x', 'y'], 'preprocessing': 'p'}),
    ('Cy2022C', {'model': (lambda: make('cy', pretrained=True))}),
])
models = OrderedDict([(ThreatModel.Linf, linf)])
"""


def quiet(share, what):
    pass


def archive(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, text in files.items():
            opened.writestr(f"robustbench-1234/{name.replace('__', '/')}", text)
    return packed.getvalue()


class Files(BaseHTTPRequestHandler):
    """Serves ``server.files``, path -> bytes."""

    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(loopback):
    running = loopback(Files)
    running.files, running.asked = {}, []
    return running


@pytest.fixture
def publish(server, monkeypatch):
    """Return a function that makes a public file the only one, with its sha256 or a reader."""

    def make(content, *, name="toy/table.csv", read=None):
        server.files["/file"] = content
        sha256 = None if read else hashlib.sha256(content).hexdigest()
        item = PublicFile(name, "a/b", "f" * 40, f"{server.url}/file", sha256, read)
        monkeypatch.setattr(facts, "FILES", (item,))
        return item

    return make


def test_every_public_file_is_pinned():
    for item in FILES:
        assert item.url.startswith("https://") and item.revision in item.url
        assert len(item.revision) == 40 and item.repository in item.url and item.licence
        assert (item.sha256 and len(item.sha256) == 64) or item.read is not None
    assert len({item.name for item in FILES}) == len(FILES) == 11


def test_a_file_is_fetched_once_and_checked(server, publish):
    item = publish(b"model,top1\nnet,91.2\n")
    for _ in range(2):
        folder, failed = fetch(None, quiet)
        assert failed == [] and (folder / item.name).read_bytes() == server.files["/file"]
    assert server.asked == ["/file"]


def test_a_file_that_is_another_one_is_refused(server, publish):
    publish(b"model,top1\n")
    server.files["/file"] = b"model,top2\n"
    with pytest.raises(IntegrityError, match="sha256"):
        fetch(None, quiet)
    assert not (facts_folder() / "toy").exists()


def test_a_file_of_ones_own_goes_first(server, publish, tmp_path):
    item = publish(b"public")
    (tmp_path / "mine" / "toy").mkdir(parents=True)
    (tmp_path / "mine" / item.name).write_bytes(b"mine")
    folder, failed = fetch(tmp_path / "mine", quiet)
    assert (folder / item.name).read_bytes() == b"mine" and failed == server.asked == []


def test_what_cannot_be_had_is_told_and_leaves_nothing_old(server, publish):
    item = publish(b"public")
    folder, _ = fetch(None, quiet)
    server.files.clear()
    for path in (folder / "public").iterdir():
        path.unlink()
    folder, failed = fetch(None, quiet)
    assert len(failed) == 1 and "HTTP 404" in str(failed[0]) and not (folder / item.name).exists()


def test_the_cards_that_a_generator_makes_of_the_fetched_file(
    server, publish, tmp_path, monkeypatch, capsys
):  # fmt: skip
    from securitynet.catalogue.cards import parse_card

    def run(folder):
        name = (folder / "toy/table.csv").read_text()
        card = {
            "id": f"toy/{name}", "provider": "toy", "name": name, "dataset": "d", "num_classes": 2,
            "architecture": "timm/x", "input": {"channels": 1, "height": 8, "width": 8},
            "weights": {"url": "https://example.org/x", "licence": "MIT"},
        }  # fmt: skip
        return [parse_card(card, where="x")]

    publish(b"net")
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(generate, "GENERATORS", {"toy": run})
    monkeypatch.setattr(generate, "DATA", tmp_path / "data")
    monkeypatch.setattr(tables, "data_folder", lambda: tmp_path / "data")
    monkeypatch.setattr(generate, "data_folder", lambda: tmp_path / "data")
    monkeypatch.delenv(generate.FACTS, raising=False)
    assert generate.main(["--fetch"]) == 0
    assert '"id":"toy/net"' in (tmp_path / "data" / "toy.jsonl").read_text()
    assert "fetch: toy/table.csv" in capsys.readouterr().out
    server.files.clear()
    for path in (facts_folder() / "public").iterdir():
        path.unlink()
    monkeypatch.setattr(generate, "GENERATORS", {"other": lambda folder: []})
    assert generate.main(["--fetch"]) == 3
    assert "HTTP 404" in capsys.readouterr().err


# --- reading


def test_records_are_merged_by_path_and_pinned_by_their_tree(monkeypatch):
    files = {"cifar10/L2/B.json": '{"a": 1}', "cifar10/L2/A.json": '{"a": 2}', "x/y.csv": "1"}
    content = archive(**{f"model_info__{k.replace('/', '__')}": v for k, v in files.items()})
    tree = tree_id({name: (FILE, blob_id(text.encode())) for name, text in files.items()})
    monkeypatch.setattr(facts_read, "RECORDS_TREE", tree)
    merged = json.loads(facts_read.robustbench_records(content))
    assert merged == {"cifar10/L2/A.json": {"a": 2}, "cifar10/L2/B.json": {"a": 1}}
    with pytest.raises(IntegrityError, match="git id"):
        facts_read.robustbench_records(archive(model_info__x="{}"))


def test_zoo_tables_are_read_as_text_and_never_executed(monkeypatch):
    monkeypatch.setattr(facts_read, "ZOO", {"cifar10": blob_id(ZOO.encode())})
    content = archive(**{"robustbench__model_zoo__cifar10.py": ZOO})
    entries = json.loads(facts_read.robustbench_zoo(content))
    assert [(e["name"], e["gdrive_id"]) for e in entries] == [
        ("Ada2020A", "abc"), ("Bo2021B", ["x", "y"]), ("Cy2022C", None)
    ]  # fmt: skip
    assert entries[0]["architecture_expression"] == "lambda: Net(depth=28)"
    assert {e["table"] for e in entries} == {"linf"}
    with pytest.raises(IntegrityError, match="git id"):
        facts_read.robustbench_zoo(archive(**{"robustbench__model_zoo__cifar10.py": ZOO + "#"}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"<html>"])
def test_what_is_no_archive_is_refused(content):
    with pytest.raises(IntegrityError, match="not an archive"):
        facts_read.robustbench_records(content)


def test_the_readme_of_robust_models_is_read_from_its_links():
    readme = (
        b"|[69.79](https://x.example/p/resnet18_l2_eps0.ckpt?sv=1) | "
        b"[66.13](https://x.example/p/wide_resnet50_2_linf_eps0.5.ckpt?sv=1)|\n"
        b'wget "https://x.example/p/resnet18_l2_eps3.ckpt?sv=1"\n'
    )
    assert json.loads(facts_read.transfer_records(readme)) == [
        {"file": "resnet18_l2_eps0.ckpt", "architecture": "resnet18", "norm": "l2", "eps": 0.0,
         "top1": 0.6979},
        {"file": "wide_resnet50_2_linf_eps0.5.ckpt", "architecture": "wide_resnet50_2",
         "norm": "linf", "eps": "0.5/255", "top1": 0.6613},
    ]  # fmt: skip


def listing(*paths):
    return {path: (FILE, blob_id(path.encode())) for path in paths}


def test_checkpoints_are_read_from_a_listing_that_its_tree_id_vouches_for(monkeypatch):
    files = listing("models/b.ckpt", "models/a.ckpt", "README.md")
    tree = [{"path": "models", "type": "tree", "mode": "040000", "sha": "0" * 40}]
    tree += [{"path": p, "type": "blob", "mode": m, "sha": s} for p, (m, s) in files.items()]
    monkeypatch.setattr(facts_read, "CHECKPOINTS_TREE", tree_id(files))
    lines = facts_read.checkpoint_blobs(json.dumps({"tree": tree}).encode()).splitlines()
    assert lines == [f"{files[p][1]} {p}" for p in ("models/a.ckpt", "models/b.ckpt")]
    tree[1]["sha"] = "1" * 40
    for answer in (json.dumps({"tree": tree}), '{"message": "rate limited"}', "[]", "no json"):
        with pytest.raises(IntegrityError):
            facts_read.checkpoint_blobs(answer.encode())


def test_an_archive_is_fetched_again_only_if_what_is_kept_is_spoilt(server, publish):
    def read(content):
        if content != b"right":
            raise IntegrityError("not it")
        return "made"

    item = publish(b"right", read=read)
    for _ in range(2):
        folder, _ = fetch(None, quiet)
    assert (folder / item.name).read_text() == "made" and len(server.asked) == 1
    kept = next(path for path in (folder / "public").iterdir() if not path.name.startswith("."))
    kept.write_bytes(b"spoilt")
    fetch(None, quiet)
    assert len(server.asked) == 2
    kept.write_bytes(b"spoilt")
    server.files["/file"] = b"other"
    with pytest.raises(IntegrityError, match="/file"):
        fetch(None, quiet)


def test_ids_are_those_that_git_gives(tmp_path):
    files = {"a.b/x": "1", "a/y/z": "2", "a0": "3", "a-": "4", "ü": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    subprocess.run(["git", "init", "-q"], **run)
    subprocess.run(["git", "add", "."], **run)
    wanted = subprocess.run(["git", "write-tree"], **run).stdout.strip()
    assert tree_id({n: (FILE, blob_id(t.encode())) for n, t in files.items()}) == wanted


@pytest.mark.public
def test_the_public_files_that_lie_here_are_those_that_are_pinned():
    if not FACTS.is_dir():
        pytest.skip("the facts (SECURITYNET_FACTS or ../shared/facts) are not here")
    whole = [item for item in FILES if item.sha256 and item.read is None]
    for item in whole:
        assert hashlib.sha256((FACTS / item.name).read_bytes()).hexdigest() == item.sha256
    assert len(whole) == 7
