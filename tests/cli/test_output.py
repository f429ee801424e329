"""What people see: listings that fit the terminal, pages of one thing, progress, status, doctor."""

import json
import re

import pytest

from securitynet.catalogue.tables import rows
from securitynet.cli import common
from securitynet.cli.columns import Column, fitting, folded

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLUMNS = (
    Column("id", "id"),
    Column("size", "size", is_right=True, rank=1),
    Column("text", "what it does", least=10),
    Column("paper", "paper", rank=2),
)
ROWS = (("net/a", "1,000", "one two three four", "X 2020"), ("net/bcd", "20", "five", "-"))


def test_rows_stand_in_columns_where_there_is_room():
    shown, lines = fitting(COLUMNS, ROWS, None)
    assert shown == list(COLUMNS)
    assert lines == [
        "id        size  what it does        paper",
        "net/a    1,000  one two three four  X 2020",
        "net/bcd     20  five                -",
    ]
    assert fitting(COLUMNS, ROWS, 42)[1] == lines


def test_texts_fold_before_a_column_is_left_out():
    assert fitting(COLUMNS, ROWS, 36)[1] == [
        "id        size  what it does  paper",
        "net/a    1,000  one two       X 2020",
        "                three four",
        "net/bcd     20  five          -",
    ]


@pytest.mark.parametrize(
    ("width", "names"),
    [(34, "id size text paper"), (33, "id size text"), (25, "id text"), (19, "id text"),
     (5, "id text")],
)  # fmt: skip
def test_columns_without_room_go_by_rank_and_never_the_first(width, names):
    shown, lines = fitting(COLUMNS, ROWS, width)
    assert [column.name for column in shown] == names.split()
    assert all(any(row[0] in line for line in lines) for row in ROWS), "an id was cut"


def test_wide_letters_count_as_two_columns():
    _, lines = fitting((Column("a", "a"), Column("b", "b")), (("模型", "x"), ("ab", "y")), None)
    assert lines == ["a     b", "模型  x", "ab    y"]


def test_folded_text_is_indented_and_never_lost():
    assert folded("one two three four five six", 4, 29) == "one two three four five\n    six"
    assert folded("one two", 4, None) == "one two"
    assert folded("", 4, 30) == ""


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_catalogue_fits_the_terminal_and_no_id_is_cut(terminal, columns):
    code, shown, _ = terminal("list", "models", columns=columns)
    lines = ESCAPE.sub("", shown).splitlines()
    assert code == 0 and max(map(len, lines)) <= columns
    starts = [line.split()[0] for line in lines]
    assert [row["id"] for row in rows()] == starts[1 : 1 + len(rows())]
    said = " ".join(lines[1 + len(rows()) :])
    assert f"{len(rows()):,} models" in said and ("no room for" in said) == (columns < 200)


def test_a_pipe_gets_whole_lines_without_colour(shell):
    done = shell("list", "methods")
    assert "\x1b" not in done.out
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert "Yeom et al., CSF 2018" in lines["mia.loss"] and "SCORES" in lines["mia.loss"]


def test_no_color_is_obeyed(terminal):
    assert ESCAPE.search(terminal("list", "datasets")[1])
    assert not ESCAPE.search(terminal("list", "datasets", NO_COLOR="1")[1])


def test_sorting_puts_what_is_unknown_last(cli):
    sizes = [card["params"] for card in cli("list", "--sort", "-params", "--json").json]
    known = [size for size in sizes if size is not None]
    assert known == sizes[: len(known)] == sorted(known, reverse=True)
    for order in ("claims.value", "-claims.value"):
        cards = cli("list", "--sort", order, "--json").json
        claims = [card["claims"][0]["value"] for card in cards if card["claims"]]
        assert claims == sorted(claims, reverse=order.startswith("-")) and len(claims) > 2
        assert [bool(card["claims"]) for card in cards] == sorted(
            (bool(card["claims"]) for card in cards), reverse=True
        )


def test_filters_and_limits_narrow_a_listing(cli):
    cards = cli("list", "models", "-w", "dataset=mnist", "-w", "family=cnn", "--json").json
    wanted = [r["id"] for r in rows() if (r["dataset"], r["family"]) == ("mnist", "cnn")]
    assert [card["id"] for card in cards] == wanted and wanted
    assert len(cli("list", "models", "--limit", "2", "--json").json) == 2
    nothing = cli("list", "models", "-w", "dataset=none")
    assert (nothing.code, nothing.out) == (0, "") and "no models match" in nothing.err
    assert "no results yet" in cli("list", "results").err


def test_results_show_the_figure_that_counts(cli, filled):
    lines = cli("list", "results", "--store", filled).out.splitlines()
    records = cli("list", "results", "--store", filled, "--json").json
    assert len(lines) == 1 + len(records) == 3
    for line, record in zip(lines[1:], records, strict=True):
        assert line.startswith(record["key"][:10])
        assert f"AUC {record['measures']['auc']['value']:.3f}" in line


def test_a_model_is_shown_in_words(cli):
    done = cli("show", "community/akamaster-resnet20")
    for words in (
        "cifar10, 10 classes", "269,722 parameters", "3 x 32 x 32", "0.485, 0.456, 0.406",
        "test accuracy 0.9173, n = 10,000", "BSD-2-Clause", "arXiv 1512.03385",
        "sha256 12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
    ):  # fmt: skip
        assert words in done.out
    assert "securitynet run membership,stealing,backdoor community/akamaster-resnet20" in done.err


def test_a_card_of_ones_own_is_shown_with_what_is_unknown(cli, net):
    shown = cli("show", net()).out
    for words in ("flatten, linear(36, 3)", "no checksum", "licence       unknown"):
        assert words in shown


def test_a_method_is_shown_with_its_options(cli):
    shown = cli("show", "steal.knockoff").out
    assert re.search(
        r"-o response +What the copy learns: .*--defence.*; one of soft, hard; default soft", shown
    )
    assert "the target's scores of all classes (SCORES)" in shown


def test_a_result_is_shown_by_the_start_of_its_key(cli, filled):
    record = cli("list", "results", "--store", filled, "--json").json[0]
    done = cli("show", record["key"][:6], "--store", filled)
    auc = record["measures"]["auc"]
    assert record["key"] in done.out
    assert re.search(rf"^AUC +{auc['value']:.3f} \[.*\]  n = 120$", done.out, flags=re.M)
    assert re.search(r"^flag: no-claim +Nobody published", done.out, flags=re.M)
    assert "[0.0, 0.0" not in done.out, "a curve is no text"


def test_a_start_that_fits_several_keys_asks_for_more(cli, filled):
    (first, second) = sorted(filled.glob("results/*/*.json"))
    twin = json.loads(second.read_text(encoding="utf-8"))
    twin["key"] = first.stem[:8] + "0" * 56
    path = filled / "results" / first.stem[:2] / f"{twin['key']}.json"
    path.write_text(json.dumps(twin), encoding="utf-8")
    done = cli("show", first.stem[:8], "--store", filled)
    assert done.code == 2 and "2 results start with" in done.err


def test_status_counts_what_is_left_and_how_long_it_takes(cli, filled):
    (plan,) = filled.glob("plans/*.json")
    content = json.loads(plan.read_text(encoding="utf-8"))
    for path, seconds in zip(sorted(filled.glob("results/*/*.json")), (10.0, 40.0), strict=True):
        record = json.loads(path.read_text(encoding="utf-8")) | {"seconds": seconds}
        record["method"] = {10.0: "mia.loss", 40.0: "mia.entropy"}[seconds]
        path.write_text(json.dumps(record), encoding="utf-8")
    content["jobs"] |= {"a": "mia.loss", "b": "mia.entropy", "c": "mia.entropy", "d": "mia.new"}
    content["workers"] = 2
    plan.write_text(json.dumps(content), encoding="utf-8")
    (item,) = cli("status", "--store", filled, "--json").json["plans"]
    expected = (10 + 40 + 40 + (10 + 40) / 2) / 2  # by method; the unknown one as any; two workers
    assert item["eta_seconds"] == pytest.approx(expected)
    assert (item["jobs"], item["done"], item["left"]) == (6, 2, 4)
    shown = cli("status", "--store", filled).out
    assert "2 of 6 done, 4 left, about 58 s; continue with\n  securitynet " in shown


def test_a_dry_run_says_what_each_method_costs(cli, material):
    words = ("run", "mia.boundary,mia.loss", material.cards[0], "--data", material.images)
    said = cli(*words, "--seeds", "0-2", "--dry-run").err
    assert said.count("mia.boundary costs about 2,500 queries a sample") == 1
    assert "mia.loss costs one query a sample" in said and "4 to run" in said


def test_the_same_command_replaces_its_older_plan(cli, net, material, tmp_path):
    store = ("--store", tmp_path / "results")
    words = ("run", "mia.loss", net(), "--data", material.images, *store)
    assert cli(*words).code == 0
    (plan,) = store[1].glob("plans/*.json")
    content = json.loads(plan.read_text(encoding="utf-8"))
    content["jobs"] |= {"f" * 64: "mia.loss"}  # as an earlier version of a method would leave it
    plan.write_text(json.dumps(content), encoding="utf-8")
    assert "1 left" in cli("status", *store).out
    assert cli(*words).code == 0
    (item,) = cli("status", "--json", *store).json["plans"]
    assert (item["jobs"], item["left"]) == (1, 0)


def test_status_of_troubles_says_how_to_try_again(cli, net, material):
    words = ("run", "mia.loss", net(architecture=["flatten"]), "--data", material.images)
    assert cli(*words).code == 1
    done = cli("status")
    assert "0 of 1 done, 1 " in done.out and "--retry-failed" in done.err
    again = cli(*words)
    assert again.code == 1 and "--retry-failed tries them again" in again.err
    assert "start with" in cli("status", "--store", "nowhere").out


def test_doctor_names_what_is_missing_and_how_to_get_it(cli, filled):
    done = cli("doctor", "--store", filled)
    assert done.code == 0 and "no problems found" in done.err
    assert re.search(r"data sets here +digits\n", done.out)
    assert re.search(r"data sets fetched +when needed: cifar10, .*organmnist3d", done.out)
    assert re.search(r"without a network, .*cifar10.*SECURITYNET_DATA=FOLDER", done.out)
    assert re.search(r"data set cub200 +not here: not downloaded: unpack", done.out)
    assert "2 records" in done.out


def test_doctor_names_extras_and_how_to_install_them(cli, filled, monkeypatch):
    from importlib import metadata

    found = metadata.version
    hidden = {"opacus": metadata.PackageNotFoundError("opacus")}

    def version(name):
        if name in hidden:
            raise hidden[name]
        return found(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "opacus missing (pip install 'securitynet[dp]')" in cli("doctor", "--store", filled).out
    done = cli("doctor", "--json", "--store", filled)
    assert done.json["extras"] == {"onnxruntime": found("onnxruntime"), "opacus": None}
    assert done.code == 0, "an extra may be missing"


@pytest.mark.parametrize(
    ("form", "threats"),
    [("onnx", "membership,stealing"), ("safetensors", "membership,stealing,backdoor")],
)
def test_no_backdoor_search_is_proposed_for_a_model_without_gradients(form, threats, cli, net):
    card = net(weights={"path": f"net.{form}", "format": form})
    assert f"securitynet run {threats} {card}" in cli("show", card).err


def test_doctor_sweeps_what_nothing_refers_to(cli, filled):
    kept = {path for path in filled.rglob("*") if path.is_file()}
    for name in ("results/ab/.x.json.123.tmp", f"blobs/cd/{'cd' * 32}.npz"):
        (filled / name).parent.mkdir(parents=True, exist_ok=True)
        (filled / name).touch()
    assert cli("doctor", "--gc", "--json", "--store", filled).json["deleted"] == 2
    assert {path for path in filled.rglob("*") if path.is_file()} == kept


def test_help_is_what_nothing_asks_for(cli):
    done = cli()
    assert (done.code, done.err) == (0, "")
    assert done.out == cli("--help").out == cli("-h").out
    for verb in ("list", "show", "get", "scan", "run", "status", "train", "report", "doctor"):
        assert re.search(rf"^  {verb} ", done.out, flags=re.M)
        assert f"securitynet {verb}" in cli(verb, "--help").out


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    with common.progress_bar("run") as report:
        for second in range(35):
            now[0] = 100.0 + second
            report(second / 35, f"job {second}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [" 29% job 10", " 57% job 20", " 86% job 30"]


def test_quiet_is_quiet(cli, material, monkeypatch):
    monkeypatch.setattr(common, "PLAIN_INTERVAL_SECONDS", 0.0)
    words = ("run", "mia.loss", material.cards[0], "--data", material.images)
    assert cli(*words, "-q").err == ""
    assert "mia.logit" in cli(*words[:1], "mia.loss,mia.logit", *words[2:]).err


def test_progress_on_a_terminal_is_a_bar_on_stderr(terminal, slow, material, net):
    card = net(name="[/red]")  # which would be markup, and wrong
    words = ("run", "mia.slow", card, "--data", material.images, "--json")
    words += ("-o", "mia.slow.seconds=1.5")
    code, shown, out = terminal(*words, is_piped=True)
    assert code == 0 and json.loads(out)[0]["status"] == "ok"
    assert "local/[/red]: mia.slow" in shown and "eta" in shown and "━" in shown

    code, shown, again = terminal(*words, is_piped=True)
    assert (code, again) == (0, out)
    assert "eta" not in shown, "what is done at once needs no bar"


def test_claims_of_one_model_at_two_sizes_are_told_apart(cli):
    shown = " ".join(cli("show", "timm/resnet18.a1_in1k").out.split())  # however it is folded
    assert "test accuracy 0.71504, n = 50,000, timm" in shown  # at the card's own size
    assert "test accuracy 0.73164, at 288 pixels, n = 50,000, timm" in shown


def test_volumes_and_pictures_are_not_mistaken_before_anything_is_fetched(cli):
    done = cli("run", "mia.loss", "medmnist/organmnist3d/resnet18_3D_1", "--data", "digits")
    assert done.code == 2
    assert "classifies volumes of 28x28x28, digits holds pictures of 8x8" in done.err
    assert "trained on organmnist3d-v2" in done.err


def test_a_model_of_several_labels_is_refused_before_anything_is_fetched(cli):
    done = cli("run", "mia.loss", "medmnist/chestmnist/resnet18_28_1")
    assert done.code == 2
    assert "gives an image several labels at once" in done.err


def test_a_data_set_of_other_classes_says_what_the_model_was_trained_on(cli):
    done = cli("run", "mia.loss", "timm/resnet18.a1_in1k", "--data", "digits")
    assert done.code == 2
    assert "tells 1000 classes apart, digits has 10" in done.err
    assert "trained on imagenet1k" in done.err
