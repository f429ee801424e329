"""Revisions and checksums of the hub's files: asked for, resumed, laid over the tables."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save

from securitynet.catalogue import database, generate, hub_client, pins, tables
from securitynet.catalogue.cards import parse_card
from securitynet.catalogue.database import find_card
from securitynet.catalogue.pins import answers, kept, known_rows, pinned, read_answer, refresh
from securitynet.catalogue.tables import expand
from securitynet.errors import IntegrityError, ResourceError, UsageError
from securitynet.files.hub import HUB
from securitynet.weights.door import open_checkpoint
from securitynet.weights.verified import in_words, verified_by

SHA = "0123456789abcdef0123456789abcdef01234567"
CONTENT = save({"fc.weight": np.ones((4, 6), np.float32)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def row(name="a.x", repo=None, file="model.safetensors", **weights):
    url = f"{HUB}/{repo or f'timm/{name}'}/resolve/main/{file}"
    known = {"url": url, "licence": "Apache-2.0", "licence_source": "code"}
    return expand({
        "id": f"toy/{name}", "provider": "toy", "name": name, "dataset": "imagenet1k",
        "num_classes": 1000, "architecture": "timm/resnet18",
        "input": {"channels": 3, "height": 224, "width": 224}, "weights": known | weights,
    })  # fmt: skip


def described(repo, files=("model.safetensors",), **changes):
    siblings = [{"rfilename": "README.md", "size": 5}]
    siblings += [
        {"rfilename": name, "size": len(CONTENT), "blobId": "1" * 40,
         "lfs": {"sha256": SHA256, "size": len(CONTENT), "pointerSize": 134}}
        for name in files
    ]  # fmt: skip
    return {
        "id": repo, "sha": SHA, "gated": False, "private": False, "tags": ["license:apache-2.0"],
        "cardData": {"license": "apache-2.0"}, "siblings": siblings,
    } | changes  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """The hub's description of a repository, and its files at a revision or ``main``."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        server, parts = self.server, urlsplit(self.path)
        server.seen.append((parts.path, parse_qs(parts.query), dict(self.headers)))
        if server.failing:
            return self.reply(*server.failing.pop(0))
        if "/resolve/" in parts.path:
            return self.reply(200, CONTENT, X_Linked_ETag=f'"{SHA256}"', X_Repo_Commit=SHA)
        item = server.models.get(parts.path.removeprefix("/api/models/"))
        if item is None:
            return self.reply(404, b'{"error": "not found"}')
        body = json.dumps(item).encode()
        etag = f'W/"{hashlib.md5(body).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            return self.reply(304, b"")
        return self.reply(200, body, ETag=etag)

    def reply(self, status, body, **headers):
        server = self.server
        server.statuses.append(status)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(loopback, monkeypatch):
    running = loopback(Hub)
    running.models = {f"timm/{n}.x": described(f"timm/{n}.x") for n in "abcd"}
    running.seen, running.statuses, running.failing = [], [], []
    monkeypatch.setenv("SECURITYNET_HUB", running.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(pins, "PAUSE_SECONDS", 0.0)
    return running


@pytest.fixture
def catalogue(monkeypatch, tmp_path):
    """Put four models of the hub in place of the shipped tables."""
    folder = tmp_path / "data"
    folder.mkdir()
    cards = [parse_card({k: v for k, v in row(f"{n}.x").items() if k != "source"}, where="x")
             for n in "abcd"]  # fmt: skip
    (folder / "toy.jsonl").write_text(tables.table_text(cards))
    monkeypatch.setattr(tables, "data_folder", lambda: folder)
    forget()
    yield [expand(card.to_json()) for card in cards]
    monkeypatch.undo()
    forget()


def forget():
    """Read the tables anew."""
    for cached in (tables.rows, pins._known_rows, database._indexed):
        cached.cache_clear()


def ask(rows, limit=None):
    return refresh(rows, limit, lambda share, what: None)


def test_a_file_is_pinned_by_what_the_hub_says(server):
    done = ask([row()])
    assert (done.n_asked, done.n_left, done.n_gone) == (1, 0, 0)
    weights = pinned(row(), answers())["weights"]
    assert weights["url"] == f"{HUB}/timm/a.x/resolve/{SHA}/model.safetensors"
    assert (weights["checksum"], weights["checksum_algorithm"]) == (SHA256, "sha256")
    assert (weights["bytes"], weights["revision"]) == (len(CONTENT), SHA)
    ((path, query, headers),) = server.seen
    assert path == "/api/models/timm/a.x" and query == {"blobs": ["true"]}
    assert not any("hf_secret" in value for value in headers.values())


def test_files_of_one_repository_are_asked_for_once(server):
    files = [f"net{i}.ckpt" for i in range(3)]
    server.models["lab/robust"] = described("lab/robust", files)
    rows = [row(f"n{i}", "lab/robust", name) for i, name in enumerate(files)]
    assert ask(rows).n_asked == 1 and len(server.seen) == 1
    urls = [pinned(item, answers())["weights"]["url"] for item in rows]
    assert urls == [f"{HUB}/lab/robust/resolve/{SHA}/{name}" for name in files]


def test_a_bounded_refresh_goes_on_and_the_next_sends_nothing_again(server):
    rows = [row(f"{n}.x") for n in "abcd"]
    assert (ask(rows, 3).n_left, ask(rows, 3).n_left) == (1, 0)
    assert [path[-3:] for path, _, _ in server.seen] == ["a.x", "b.x", "c.x", "d.x"]
    assert ask(rows).n_asked == 4 and server.statuses[4:] == [304] * 4
    server.models["timm/b.x"] = described("timm/b.x", sha="f" * 40)
    ask(rows)
    assert (
        answers()["timm/b.x"]["revision"] == "f" * 40 and answers()["timm/a.x"]["revision"] == SHA
    )


def test_a_refresh_that_is_cut_off_keeps_its_answers(server, monkeypatch):
    monkeypatch.setattr(hub_client, "MAX_RETRIES", 0)
    rows = [row(f"{n}.x") for n in "abcd"]
    ask(rows, 2)
    server.failing = [(500, b"{}")]
    with pytest.raises(ResourceError, match="the answers so far are kept"):
        ask(rows)
    assert set(answers()) == {"timm/a.x", "timm/b.x"}
    assert ask(rows).n_asked == 2 and set(answers()) == set(server.models)


def test_a_limited_rate_is_waited_out(server):
    server.failing = [(429, b"{}"), (503, b"")]
    assert ask([row()]).n_asked == 1 and server.statuses == [429, 503, 200]


@pytest.mark.parametrize("answer", [(200, b"no json"), (200, b"[]"), (200, b'{"id": "a/b"}'),
                                    (418, b"{}")])  # fmt: skip
def test_nonsense_is_one_line_and_nothing_is_kept(server, answer):
    server.failing = [answer]
    with pytest.raises(ResourceError, match="cannot list the hub") as caught:
        ask([row()])
    assert "\n" not in str(caught.value) and answers() == {}


def test_what_is_gone_or_gated_is_flagged(server):
    server.models = {"timm/b.x": described("timm/b.x", gated="manual")}
    done = ask([row("a.x"), row("b.x")])
    assert done.n_gone == 1
    gone, gated = (pinned(row(f"{n}.x"), answers()) for n in "ab")
    assert gone["flags"] == ["dead-link"] and gone["weights"] == row("a.x")["weights"]
    assert gated["flags"] == ["gated"] and gated["weights"]["checksum"] == SHA256


@pytest.mark.parametrize(
    ("known", "stated", "licence", "flags"),
    [
        ("Apache-2.0", "apache-2.0", ("Apache-2.0", "code"), []),
        ("Apache-2.0", "cc-by-nc-4.0", ("Apache-2.0", "code"), ["licences-disagree"]),
        ("Apache-2.0", None, ("Apache-2.0", "code"), []),
        ("unknown", "mit", ("MIT", "hub"), []),
        ("LicenseRef-fastvit", "fastvit", ("LicenseRef-fastvit", "code"), []),
    ],
)
def test_the_hubs_licence_fills_a_gap_and_never_overrules(known, stated, licence, flags):
    item = described("timm/a.x", cardData={"license": stated}, tags=[])
    source = "unstated" if known == "unknown" else "code"
    before = row(licence=known, licence_source=source)
    before["flags"] = ["licence-unknown"] if known == "unknown" else []
    after = pinned(before, {"timm/a.x": read_answer(item)})
    assert (after["weights"]["licence"], after["weights"]["licence_source"]) == licence
    assert after["flags"] == flags


@pytest.mark.parametrize(
    ("files", "name"),
    [(("pytorch_model.bin",), "pytorch_model.bin"), (("model.safetensors", "x"), None), ((), "")],
)
def test_another_file_is_taken_where_the_cards_own_is_not_there(files, name):
    said = {"timm/a.x": read_answer(described("timm/a.x", files))}
    weights = pinned(row(), said)["weights"]
    wanted = "model.safetensors" if name is None else name
    assert weights["url"].endswith(f"/{SHA}/{wanted}" if wanted else "/main/model.safetensors")
    assert weights["checksum"] == (SHA256 if wanted else None)


def test_a_card_that_has_a_checksum_is_left_alone(server):
    mine = row(checksum="12345678", checksum_algorithm="sha256-prefix")
    assert pinned(mine, {"timm/a.x": read_answer(described("timm/a.x"))}) is mine
    with pytest.raises(UsageError, match="lack a checksum"):
        ask([mine])


def test_pins_of_a_shipped_table_survive_a_renewal_without_network():
    before = pinned(row(), {"timm/a.x": read_answer(described("timm/a.x", gated="auto"))})
    after = kept(row(), before)
    assert after["weights"] == before["weights"] and after["flags"] == ["gated"]
    assert kept(row(), None) == row() and kept(row(), row()) == row()
    assert kept(row("a.x", "other/a.x"), before) == row("a.x", "other/a.x")


def test_a_user_pins_a_provider_by_one_command(server, catalogue, capsys):
    from securitynet.cli.app import run_command

    command = ["list", "models", "--provider", "toy", "--refresh"]
    assert run_command([*command, "--limit", "3"]) == 0
    assert "1 left: --refresh again goes on" in capsys.readouterr().err
    assert run_command([*command, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {item["weights"]["checksum"] for item in listed} == {SHA256}
    assert find_card("toy/a.x").weights.revision == SHA
    assert [item["id"] for item in known_rows()] == [item["id"] for item in catalogue]
    card = find_card("toy/b.x")
    assert open_checkpoint(card.weights, folder=None, where=card.id).sha256 == SHA256
    assert server.seen[-1][0] == f"/timm/b.x/resolve/{SHA}/model.safetensors"
    assert run_command(["list", "models", "--provider", "nobody", "--refresh"]) == 2
    assert run_command(["list", "models", "--refresh"]) == 2


def test_a_card_without_a_pin_is_pinned_by_its_first_download(server, catalogue, capsys):
    from securitynet.cli.app import run_command

    assert run_command(["get", "toy/c.x", "--json"]) == 0
    (got,) = json.loads(capsys.readouterr().out)
    assert (got["sha256"], got["verified_by"]) == (SHA256, "hub")
    weights = find_card("toy/c.x").weights
    assert weights.checksum is None and verified_by(weights, where="toy/c.x") == "hub"
    assert in_words(weights, where="toy/c.x").endswith(f"by the hub's sha256 {SHA256}")


def test_a_pinned_file_that_was_changed_is_refused(server, catalogue):
    server.models["timm/d.x"]["siblings"][1]["lfs"]["sha256"] = "e" * 64
    ask(catalogue)
    card = find_card("toy/d.x")
    with pytest.raises(IntegrityError, match="sha256"):
        open_checkpoint(card.weights, folder=None, where=card.id)


def test_a_maintainer_pins_the_shipped_table(server, catalogue, monkeypatch, tmp_path, capsys):
    made = [parse_card({k: v for k, v in item.items() if k != "source"}, where="x")
            for item in catalogue]  # fmt: skip
    monkeypatch.setattr(generate, "GENERATORS", {"toy": lambda facts: made})
    monkeypatch.setattr(generate, "DATA", tmp_path / "data")
    monkeypatch.setattr(generate, "data_folder", lambda: tmp_path / "data")
    monkeypatch.delenv(generate.FACTS, raising=False)
    assert generate.main(["--pin"]) == 0
    assert "pin: 4 repositories asked, 0 closed or gone" in capsys.readouterr().out
    text = (tmp_path / "data" / "toy.jsonl").read_text()
    assert text.count(SHA256) == 4 and text.count(f"/resolve/{SHA}/") == 4
    pins.pins_path().unlink()
    assert generate.main([]) == 0 and (tmp_path / "data" / "toy.jsonl").read_text() == text
    assert generate.main(["--check"]) == 0
    monkeypatch.setattr(hub_client, "MAX_RETRIES", 0)
    server.failing = [(500, b"{}")]
    assert generate.main(["--pin"]) == 3
    assert (tmp_path / "data" / "toy.jsonl").read_text() == text
