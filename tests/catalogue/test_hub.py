"""The hub's listing, from a server on loopback that answers as the hub does."""

import json
import sqlite3
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest

from securitynet.catalogue import hub
from securitynet.catalogue.hub import find_row, hub_rows, refresh, table_path
from securitynet.catalogue.hub_rows import read_model
from securitynet.errors import ResourceError, UsageError

SHA = "0123456789abcdef0123456789abcdef01234567"


def listed(name="someone/vit-birds", **changes):
    """One entry of ``/api/models``, with the names that the hub's own client reads."""
    entry = {
        "_id": "65f0", "id": name, "modelId": name, "sha": SHA, "private": False, "gated": False,
        "pipeline_tag": "image-classification", "library_name": "transformers", "downloads": 1200,
        "lastModified": "2024-05-01T10:00:00.000Z", "likes": 3,
        "tags": ["transformers", "safetensors", "license:apache-2.0", "dataset:birds"],
        "safetensors": {"parameters": {"F32": 85_800_000}, "total": 85_800_000},
        "siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"},
                     {"rfilename": "checkpoint-1/model.safetensors"}],
        "config": {"architectures": ["ViTForImageClassification"], "model_type": "vit"},
        "cardData": {
            "license": "apache-2.0", "datasets": ["birds"],
            "model-index": [{"name": name, "results": [{
                "task": {"type": "image-classification", "name": "Image Classification"},
                "dataset": {"name": "birds", "type": "birds", "split": "test"},
                "metrics": [{"type": "accuracy", "value": 0.934, "name": "Accuracy"}],
                "source": {"name": "log", "url": "https://example.org/log"},
            }]}],
        },
    }  # fmt: skip
    return entry | changes


class Hub(BaseHTTPRequestHandler):
    """Pages of ``server.models``; ``server.broken`` answers in its place."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        server, parts = self.server, urlsplit(self.path)
        query = parse_qs(parts.query)
        server.seen.append((parts.path, query, dict(self.headers)))
        begin, size = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
        if server.broken and begin >= server.broken_from:
            return self.reply(*server.broken)
        rest = begin + size < len(server.models)
        following = (
            f"{server.next_base or server.url}/api/models?limit={size}&cursor={begin + size}"
        )
        link = {"Link": f'<{following}>; rel="next"'} if rest else {}
        return self.reply(200, json.dumps(server.models[begin : begin + size]), **link)

    def reply(self, status, text, **headers):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(loopback, monkeypatch):
    running = loopback(Hub)
    running.models, running.seen, running.broken = [listed()], [], None
    running.broken_from, running.next_base = 0, None
    monkeypatch.setenv("SECURITYNET_HUB", running.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(hub, "PAUSE_SECONDS", 0.0)
    return running


def many(n, prefix="m"):
    return [listed(f"someone/{prefix}{i:03}") for i in range(n)]


def names():
    return [row["name"] for row in hub_rows()]


def test_a_model_becomes_a_row_with_a_pinned_revision(server):
    done = refresh()
    assert (done.n_seen, done.n_kept, done.is_complete) == (1, 1, True)
    (row,) = hub_rows()
    assert row["id"] == f"hub/someone/vit-birds@{SHA}" and row["provider"] == "hub"
    assert (
        row["weights"]["url"] == f"{server.url}/someone/vit-birds/resolve/{SHA}/model.safetensors"
    )
    assert row["weights"]["licence"] == "Apache-2.0" and row["weights"]["revision"] == SHA
    assert (row["params"], row["dataset"], row["family"]) == (85_800_000, "birds", "vit")
    assert row["claims"] == [{
        "metric": "test_accuracy", "value": 0.934, "source": "https://example.org/log", "n": None,
        "img_size": None, "revision": SHA,
    }]  # fmt: skip
    assert row["input"] is None and row["num_classes"] is None and row["architecture"] is None
    assert row["hub"]["downloads"] == 1200 and "input-unknown" in row["flags"]


def test_what_is_asked_is_bounded_and_nothing_of_the_user_is_sent(server):
    refresh(limit=7)
    ((path, query, headers),) = server.seen
    assert path == "/api/models" and query["pipeline_tag"] == ["image-classification"]
    assert query["gated"] == ["false"] and query["filter"] == ["safetensors"]
    assert query["limit"] == ["7"] and {"sha", "safetensors", "cardData"} <= set(query["expand"])
    assert "securitynet" in headers["user-agent"].lower()
    assert not any("hf_secret" in value for value in headers.values())


def test_the_row_of_a_name_is_found_with_and_without_revision(server):
    refresh()
    assert find_row("hub/someone/vit-birds") == find_row(f"hub/someone/vit-birds@{SHA}")
    assert find_row("hub/someone/vit-birds")["name"] == "someone/vit-birds"
    assert find_row("hub/someone/else") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"gated": "auto"},
        {"gated": "manual"},
        {"private": True},
        {"disabled": True},
        {"pipeline_tag": "object-detection"},
        {"sha": None},
        {"sha": "main"},
        {"id": "no-owner"},
        {"id": "../../etc/passwd"},
        {"id": "a/b/c"},
        {"cardData": None, "tags": ["safetensors"]},
        {"cardData": {"license": "unknown"}, "tags": []},
        {"cardData": {"license": ["mit", "apache-2.0"]}},
        {"safetensors": None, "siblings": [{"rfilename": "pytorch_model.bin"}]},
        {"safetensors": None, "siblings": [{"rfilename": "deep/model.safetensors"}]},
        {"siblings": [{"name": "broken"}]},
        {"safetensors": {"total": 3}},
        {"lastModified": "yesterday"},
        {"cardData": 3, "tags": 4},
    ],
    ids=str,
)
def test_what_is_closed_unlicensed_or_malformed_stays_out(changes):
    assert read_model(listed(**changes), "https://example.org") is None


@pytest.mark.parametrize("item", [None, 3, [], "text", {}, {"id": 3}])
def test_an_entry_that_is_none_stays_out(item):
    assert read_model(item, "https://example.org") is None


@pytest.mark.parametrize(
    ("changes", "licence"),
    [
        ({"cardData": {"license": "mit"}}, "MIT"),
        ({"cardData": {}, "tags": ["license:cc-by-nc-4.0"]}, "CC-BY-NC-4.0"),
        ({"cardData": {"license": "openrail"}}, "openrail"),
        ({"cardData": {"license": "other", "license_name": "house-terms"}}, "house-terms"),
        ({"cardData": {"license": "other"}}, "other"),
    ],
)
def test_the_licence_is_the_one_that_is_stated(changes, licence):
    row = read_model(listed(**changes), "https://example.org")
    assert (row["weights"]["licence"], row["weights"]["licence_source"]) == (licence, "hub")


def results(value, *, metric="accuracy", task="image-classification", split="test"):
    dataset = {"name": "d", "type": "d"} | ({"split": split} if split else {})
    return {"license": "mit", "model-index": [{"name": "n", "results": [
        {"task": {"type": task}, "dataset": dataset, "metrics": [{"type": metric, "value": value}]}
    ]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("card", "claims"),
    [
        (results(0.5), [("test_accuracy", 0.5)]),
        (results(93.4), [("test_accuracy", 0.934)]),
        (results(0.9, split="train"), [("accuracy", 0.9)]),
        (results(0.9, split=None), [("accuracy", 0.9)]),
        (results(0.4, metric="F1 score"), [("f1_score", 0.4)]),
        (results(2.5, metric="loss"), [("loss", 2.5)]),
        (results(0), []),
        (results(140), []),
        (results("0.9"), []),
        (results(True), []),
        (results(float("nan")), []),
        (results(0.9, task="text-classification"), []),
        ({"license": "mit"}, []),
        ({"license": "mit", "model-index": "broken"}, []),
    ],
    ids=str,
)
def test_reported_results_are_claims_only_where_they_can_be(card, claims):
    row = read_model(listed(cardData=card), "https://example.org")
    found = [(claim["metric"], pytest.approx(claim["value"])) for claim in row["claims"]]
    assert found == claims
    assert all(claim["source"] for claim in row["claims"])


def test_result_files_of_a_repository_are_claims_too():
    entry = {"dataset": {"id": "org/set", "task_id": "accuracy"}, "value": 88.0,
             "source": {"url": "https://example.org/run"}}  # fmt: skip
    row = read_model(listed(cardData={"license": "mit"}, evalResults=[entry]), "https://x.org")
    (claim,) = row["claims"]
    assert (claim["value"], claim["source"]) == (0.88, "https://example.org/run")


def test_several_files_or_data_sets_are_not_guessed():
    siblings = [{"rfilename": f"model-0000{i}-of-00002.safetensors"} for i in (1, 2)]
    card = {"license": "mit", "datasets": ["a", "b"]}
    row = read_model(listed(siblings=siblings, cardData=card, tags=[]), "https://example.org")
    assert row["weights"]["url"] is None and "sharded" in row["flags"]
    assert row["dataset"] is None and row["hub"]["datasets"] == ["a", "b"]


def test_a_bounded_crawl_goes_on_where_it_stopped(server):
    server.models = many(10)
    assert refresh(limit=4).is_complete is False
    assert names() == [f"someone/m{i:03}" for i in range(4)]
    assert refresh(limit=4).is_complete is False and len(names()) == 8
    done = refresh(limit=4)
    assert done.is_complete and len(names()) == 10 and done.n_seen == 2
    assert [query.get("cursor") for _, query, _ in server.seen] == [None, ["4"], ["8"]]


def test_a_crawl_goes_through_all_pages(server, monkeypatch):
    monkeypatch.setattr(hub, "PAGE", 3)
    server.models = many(8)
    shares = []
    done = refresh(progress=lambda share, what: shares.append(share))
    assert done.is_complete and len(names()) == 8 and len(server.seen) == 3
    assert shares == sorted(shares) and len(shares) == 2


def test_a_finished_crawl_drops_what_is_gone_and_renews_revisions(server):
    server.models = many(3)
    refresh()
    server.models = [listed("someone/m001", sha="f" * 40)]
    refresh()
    assert [row["id"] for row in hub_rows()] == [f"hub/someone/m001@{'f' * 40}"]


def test_an_unfinished_crawl_drops_nothing(server):
    server.models = many(3, "old")
    refresh()
    server.models = many(6, "new")
    refresh(limit=3)
    assert len(names()) == 6
    refresh(limit=3)
    assert names() == [f"someone/new{i:03}" for i in range(6)]


def test_a_crawl_that_is_cut_off_keeps_its_pages_and_goes_on(server, monkeypatch):
    monkeypatch.setattr(hub, "PAGE", 2)
    server.models, server.broken, server.broken_from = many(6), (404, "{}"), 4
    with pytest.raises(ResourceError, match="cannot list the hub"):
        refresh()
    assert len(names()) == 4
    server.broken = None
    assert refresh().is_complete and len(names()) == 6
    assert server.seen[-1][1]["cursor"] == ["4"]


def test_another_hub_is_another_crawl(server, monkeypatch):
    server.models = many(4)
    refresh(limit=2)
    monkeypatch.setenv("SECURITYNET_HUB", f"{server.url}/datasets")  # names the same hub
    refresh(limit=1)
    assert server.seen[-1][1]["cursor"] == ["2"]
    with sqlite3.connect(table_path()) as table:
        table.execute("UPDATE state SET endpoint = 'https://example.org', next = 'https://x/'")
    table.close()
    refresh(limit=4)
    assert "cursor" not in server.seen[-1][1]


@pytest.mark.parametrize(
    "answer", [(200, "no json"), (200, "{}"), (404, "[]"), (401, "[]"), (502, "[]")]
)
def test_nonsense_is_one_line_and_the_table_is_kept(server, answer):
    refresh()
    server.broken = answer
    with pytest.raises(ResourceError, match=r"what was listed before is kept") as caught:
        refresh()
    assert "\n" not in str(caught.value) and names() == ["someone/vit-birds"]


def test_a_next_page_elsewhere_is_not_followed(server, monkeypatch):
    monkeypatch.setattr(hub, "PAGE", 1)
    server.models, server.next_base = many(3), "https://evil.example"
    with pytest.raises(ResourceError, match="another server"):
        refresh()


def test_a_table_that_is_damaged_is_named(tmp_path):
    table_path().parent.mkdir(parents=True)
    table_path().write_bytes(b"no database" * 100)
    with pytest.raises(ResourceError, match="delete it and list again with --refresh"):
        hub_rows()


def test_plain_http_elsewhere_is_refused(monkeypatch):
    monkeypatch.setenv("SECURITYNET_HUB", "http://example.org")
    with pytest.raises(UsageError, match="https"):
        refresh()


def test_a_listed_model_is_shown_but_cannot_be_run(server, capsys):
    from securitynet.cli.app import run_command

    assert run_command(["list", "models", "--provider", "hub", "--refresh", "--quiet"]) == 0
    assert "someone/vit-birds" in capsys.readouterr().out
    assert run_command(["show", "hub/someone/vit-birds"]) == 0
    shown = capsys.readouterr().out
    assert f"/resolve/{SHA}/model.safetensors" in shown and "Apache-2.0" in shown
    assert run_command(["run", "mia.loss", "hub/someone/vit-birds"]) == 2
    assert "securitynet add model FILE" in capsys.readouterr().err


def test_without_a_table_there_are_no_rows():
    assert hub_rows() == [] and not table_path().exists()
