"""Contributed cards: each shipped file is taken, and each way to spoil one is named in a line."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from securitynet.catalogue import contributed, tables
from securitynet.catalogue.contributed import contributed_files, licences, problems
from securitynet.catalogue.tables import rows
from securitynet.errors import UsageError

SHIPPED = contributed_files()
NAME = "someone-resnet20"
CARD = {
    "id": f"community/{NAME}", "provider": "community", "name": NAME, "dataset": "cifar10",
    "num_classes": 10, "architecture": "securitynet/cifar_resnet20_a",
    "input": {"channels": 3, "height": 32, "width": 32},
    "weights": {
        "url": "https://example.org/net.pth", "checksum": "0123456789abcdef" * 4,
        "checksum_algorithm": "sha256", "licence": "MIT", "licence_source": "code",
    },
    "claims": [{"metric": "test_accuracy", "value": 0.91, "source": "https://example.org/log"}],
}  # fmt: skip


def write(folder, stem=NAME, **changes):
    card = json.loads(json.dumps(CARD))
    for field, value in changes.items():
        part, _, inner = field.partition("__")
        if inner:
            card[part][inner] = value
        else:
            card[part] = value
    path = Path(folder) / f"{stem}.json"
    path.write_text(json.dumps(card, indent=1))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_card_is_taken(path):
    assert problems(path) == []
    assert path.read_text().endswith("}\n") and len(path.read_text().splitlines()) > 10


def test_every_file_of_the_folder_is_a_row():
    named = {row["id"] for row in rows() if row["provider"] == "community"}
    assert named == {f"community/{path.stem}" for path in SHIPPED} and len(named) >= 12


def test_a_good_card_is_taken(tmp_path):
    assert problems(write(tmp_path)) == []


CLAIM = CARD["claims"][0]
BAD = [
    ({"id": "community/other"}, f"id must be community/{NAME}"),
    ({"provider": "timm"}, "provider community"),
    ({"dataset": "cifar11"}, "unknown data set 'cifar11'; did you mean cifar10"),
    ({"num_classes": 100}, "num_classes is 100, but cifar10 has 10"),
    ({"num_classes": 1}, "num_classes must be at least 2"),
    ({"input__height": None}, "input: height: must not be null"),
    ({"colour": "red"}, "unknown field 'colour'"),
    ({"weights__url": None}, "weights.url must be the file's public address"),
    ({"weights__url": "http://example.org/net.pth"}, "weights.url must be an https address"),
    ({"weights__path": "net.pth"}, "weights.path be left out"),
    ({"weights__checksum": None}, "must be the whole sha256"),
    ({"weights__checksum": "01234567"}, "must be the whole sha256"),
    ({"weights__checksum_algorithm": "md5"}, "must be the whole sha256"),
    ({"weights__licence": None}, "weights.licence is not known"),
    ({"weights__licence": "unknown"}, "weights.licence is not known"),
    ({"weights__licence": "Apache-2"}, "unknown licence 'Apache-2'; did you mean Apache-2.0"),
    ({"weights__licence_source": "presumed"}, "licence_source must be one of hub, code, file"),
    ({"weights__licence_source": None}, "licence_source must be one of hub, code, file"),
    ({"claims": [{**CLAIM, "value": 91.0}]}, "must lie in [0, 1]"),
    ({"claims": [{**CLAIM, "value": 0}]}, "a figure that is not known is left out"),
    ({"claims": [{"metric": "test_accuracy", "value": 0.9}]}, "missing source"),
    ({"claims": [{**CLAIM, "source": "my log"}]}, "the source of claim test_accuracy must be"),
    ({"claims": [CLAIM, CLAIM]}, "a metric is claimed twice"),
]


@pytest.mark.parametrize(("changes", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_a_bad_card_is_named_in_one_line(tmp_path, changes, said):
    (problem,) = problems(write(tmp_path, **changes))
    assert said in problem and "\n" not in problem
    assert problem.startswith(f"{NAME}.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": ' * 5000, "\x00"], ids=range(6))
def test_what_is_no_card_is_one_line(tmp_path, text):
    (tmp_path / "odd.json").write_text(text)
    (problem,) = problems(tmp_path / "odd.json")
    assert problem.startswith("odd.json") and "\n" not in problem


def test_a_taken_name_and_known_weights_are_told(tmp_path):
    shipped = json.loads(SHIPPED[0].read_text())
    copy = tmp_path / SHIPPED[0].name
    copy.write_text(json.dumps(shipped))
    found = problems(copy)
    assert any("is taken by another model" in line for line in found)
    assert any(f"the weights are those of {shipped['id']}" in line for line in found)
    (odd,) = problems(write(tmp_path, "Odd_Name", **{
        "id": "community/Odd_Name", "name": "Odd_Name"
    }))  # fmt: skip
    assert "small letters" in odd


def test_two_files_of_one_id_do_not_load(tmp_path):
    (tmp_path / "community").mkdir()
    write(tmp_path / "community")
    write(tmp_path / "community", "twin")
    with pytest.raises(UsageError, match=r"community/.*there twice"):
        tables.read_rows(tables.contributed(tmp_path))


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "community").mkdir()
    (tmp_path / "community" / "bad.json").write_text("{")
    with pytest.raises(UsageError, match=r"community/bad\.json"):
        tables.read_rows(tables.contributed(tmp_path))


def test_no_licence_that_nobody_states_is_known():
    assert {"MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-NC-4.0"} <= licences()
    assert not {None, "unknown"} & licences()


class Site(BaseHTTPRequestHandler):
    """``/there`` is there, ``/shy`` answers GET only, all else is gone."""

    def do_HEAD(self):
        self.reply(200 if self.path == "/there" else 405 if self.path == "/shy" else 404)

    def do_GET(self):
        self.reply(200 if self.path in ("/there", "/shy") else 404)

    def reply(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_dead_links_are_found_when_asked_for(tmp_path, loopback):
    url = loopback(Site).url
    claims = [{**CLAIM, "source": f"{url}/shy"}]
    alive = write(tmp_path, weights__url=f"{url}/there", claims=claims)
    assert problems(alive, with_links=True) == []
    gone = write(tmp_path, weights__url=f"{url}/there", claims=[{**CLAIM, "source": f"{url}/gone"}])
    assert problems(gone) == []
    assert problems(gone, with_links=True) == [f"{NAME}.json: dead link: {url}/gone: HTTP 404"]
    nobody = write(tmp_path, weights__url="http://127.0.0.1:9/net", claims=[])
    (problem,) = problems(nobody, with_links=True)
    assert "dead link: http://127.0.0.1:9/net: " in problem


def test_the_folder_is_where_the_package_looks():
    assert {path.parent.name for path in SHIPPED} == {contributed.PROVIDER}
