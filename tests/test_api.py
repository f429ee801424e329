"""The Python interface: a checkpoint of one's own in three lines, at the access asked for."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import securitynet as sn
from securitynet import api
from securitynet.catalogue.cards import load_card
from securitynet.errors import AccessError, IntegrityError, ResourceError, UsageError

N_CLASSES, SIZE, N = 3, 6, 20
ATTACKS = {
    "mia.class_pvalue", "mia.confidence", "mia.correctness", "mia.entropy", "mia.label_augment",
    "mia.label_noise", "mia.logit", "mia.loss", "mia.loss_tail", "mia.mlp", "mia.mlp_top3",
    "mia.modified_entropy",
}  # fmt: skip


@pytest.fixture(scope="module")
def pixels():
    """Return (split, label) -> uint8 ``[N, SIZE, SIZE]``: a bright band a class, in noise."""
    rng, made = np.random.default_rng(0), {}
    for split in ("train", "test"):
        for label in range(N_CLASSES):
            images = rng.integers(0, 160, (N, SIZE, SIZE))
            images[:, 2 * label : 2 * label + 2] += 25
            made[split, label] = images.astype(np.uint8)
    return made


@pytest.fixture(scope="module")
def own(tmp_path_factory, pixels):
    """Save a trained network, its card and its images, as anybody would."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    folder = tmp_path_factory.mktemp("own")
    for (split, label), images in pixels.items():
        place = folder / "images" / split / str(label)
        place.mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(place / f"{i:02}.png")
    inputs = np.concatenate([pixels["train", label] for label in range(N_CLASSES)])
    inputs = torch.from_numpy(inputs).float().flatten(1) / 255
    labels = torch.arange(N_CLASSES).repeat_interleave(N)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 32), nn.ReLU(), nn.Linear(32, N_CLASSES))
    for _ in range(300):
        net.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        with torch.no_grad():
            for weights in net.parameters():
                weights -= 0.5 * weights.grad
    torch.save(net.state_dict(), folder / "net.pt")
    save_file(net.state_dict(), folder / "net.safetensors")
    card = {
        "name": "own",
        "dataset": "bands",
        "num_classes": N_CLASSES,
        "architecture": [
            "flatten", {"linear": [SIZE**2, 32]}, "relu", {"linear": [32, N_CLASSES]},
        ],
        "input": {"channels": 1, "height": SIZE, "width": SIZE},
        "weights": {"path": "net.safetensors"},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder, net.eval()


def logits_of(net, images):
    """What the network answers without this package, float32."""
    import torch

    with torch.no_grad():
        return net(torch.from_numpy(images).float() / 255).numpy()


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, securitynet as sn; dir(sn); sn.evaluate; sn.load; sn.results; sn.models; "
        "sn.scan; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_public_names_are_few_and_all_there():
    assert len(sn.__all__) <= 15 and list(sn.__all__) == sorted(sn.__all__)
    assert set(sn.__all__) < set(dir(sn))
    assert all(getattr(sn, name) for name in sn.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = sn.nothing


def test_models_are_the_catalogue_as_a_frame():
    frame = api.models()
    assert frame["id"].is_unique and len(frame) >= 12
    mnist = api.models("dataset=mnist", "family=mlp")
    assert set(mnist["dataset"]) == {"mnist"} and set(mnist["family"]) == {"mlp"}
    assert set(mnist["id"]) == set(frame[(frame.dataset == "mnist") & (frame.family == "mlp")].id)
    with pytest.raises(UsageError, match="datset"):
        api.models("datset=mnist")


def test_no_room_takes_the_name_of_a_public_function():
    """Importing a room puts its name into the package, in place of what was there."""
    rooms = {module.name for module in pkgutil.iter_modules(sn.__path__)}
    assert not rooms & set(sn.__all__)


@pytest.mark.parametrize("form", ["folder", "file", "text", "card"])
def test_a_model_is_loaded_however_it_is_named(own, form, pixels):
    folder, net = own
    named = {
        "folder": folder, "file": folder / "card.json", "text": str(folder / "card.json"),
        "card": load_card(folder / "card.json"),
    }[form]  # fmt: skip
    images = pixels["test", 1]
    target = sn.load(named)
    expected = logits_of(net, images)
    np.testing.assert_allclose(target.logits(images[..., None]), expected, atol=1e-3)
    assert target.labels(images[..., None]).tolist() == expected.argmax(1).tolist()
    assert (target.queries, target.access) == (2 * N, sn.Access.WEIGHTS)


ALLOWED = {
    sn.Access.LABELS: {"labels"},
    sn.Access.SCORES: {"labels", "scores", "log_scores"},
    sn.Access.LOGITS: {"labels", "scores", "log_scores", "logits"},
    sn.Access.GRADIENTS: {"labels", "scores", "log_scores", "logits", "module"},
}


@pytest.mark.parametrize("access", ALLOWED)
def test_more_than_the_access_allows_is_refused(own, pixels, access):
    target = sn.load(own[0], access=access)
    images = pixels["test", 0][..., None]
    for name in ALLOWED[sn.Access.GRADIENTS]:
        ask = getattr(target, name)
        arguments = () if name == "module" else (images,)
        if name in ALLOWED[access]:
            assert ask(*arguments) is not None
        else:
            with pytest.raises(AccessError, match=f"has {access.name}"):
                ask(*arguments)
    assert target.queries == N * len(ALLOWED[access] - {"module"}), "a refusal is no query"


def test_a_method_that_asks_for_more_than_it_declared_fails_as_a_record(own, tmp_path, monkeypatch):
    from dataclasses import replace

    from securitynet import registry
    from securitynet.runs import plan, work

    greedy = replace(registry.get_method("mia.loss"), access=sn.Access.LABELS)
    for module in (plan, work):
        monkeypatch.setattr(module, "get_method", lambda name: greedy)
    (record,) = sn.evaluate("mia.loss", own[0], data=own[0] / "images", store=tmp_path / "s")
    assert record.status == "failed" and record.measures == {}
    assert "needs SCORES access, has LABELS" in record.error


def test_an_audit_gives_figures_that_a_count_confirms(own, pixels, tmp_path):
    folder, net = own
    records = sn.evaluate("membership", folder, data=folder / "images", store=tmp_path / "s")
    assert {record.method for record in records} == ATTACKS and len(records) == 13
    assert {(record.status, record.model) for record in records} == {("ok", "local/own")}
    right = {
        split: np.mean([
            logits_of(net, pixels[split, label]).argmax(1) == label for label in range(N_CLASSES)
        ])
        for split in ("train", "test")
    }  # fmt: skip
    assert right["train"] > right["test"], "the material must leak, or the test shows nothing"
    for record in records:
        found = {name: measure.value for name, measure in record.measures.items()}
        assert found["train_accuracy"] == pytest.approx(right["train"])
        assert found["test_accuracy"] == pytest.approx(right["test"])
        assert found["gap"] == pytest.approx(right["train"] - right["test"])
    (gap_attack,) = (record for record in records if record.method == "mia.correctness")
    expected = (1 + right["train"] - right["test"]) / 2
    assert gap_attack.measures["auc"].value == pytest.approx(expected)
    assert gap_attack.measures["auc"].n == 2 * N * N_CLASSES


def test_the_same_call_again_is_answered_from_the_store(own, tmp_path):
    folder, store = own[0], tmp_path / "s"
    call = {"data": str(folder / "images"), "store": store}
    first = sn.evaluate(["mia.loss"], [folder], **call)
    (path,) = store.glob("results/*/*.json")
    before = path.stat().st_mtime_ns
    assert sn.evaluate("mia.loss", str(folder), **call) == first
    both = sn.evaluate(["mia.loss", "mia.entropy"], folder, **call)
    assert first[0] in both and len(both) == 2
    assert path.stat().st_mtime_ns == before
    (limited,) = sn.evaluate("mia.loss", folder, limit=30, **call)
    assert limited.status == "ok", limited.error
    assert limited.key != first[0].key and limited.measures["auc"].n == 60


@pytest.mark.parametrize(
    "options", [{"mia.modified_entropy.per_class": True}, ["mia.modified_entropy.per_class=true"]]
)
def test_options_are_given_as_values_or_as_on_the_command_line(own, tmp_path, options):
    call = {"data": own[0] / "images", "store": tmp_path / "s", "options": options}
    (record,) = sn.evaluate("mia.modified_entropy", own[0], **call)
    assert record.config == {"per_class": True} and record.status == "ok"


def test_results_are_a_frame_of_the_store(own, tmp_path):
    store = tmp_path / "s"
    records = sn.evaluate("mia.loss,mia.entropy", own[0], data=own[0] / "images", store=store)
    frame = sn.results(store=store)
    assert frame["key"].tolist() == [record.key for record in records]
    assert frame["auc"].tolist() == [record.measures["auc"].value for record in records]
    assert frame["auc_low"].tolist() == [record.measures["auc"].low for record in records]
    assert sn.results("method=mia.loss", store=store)["method"].tolist() == ["mia.loss"]
    assert sn.results("status=failed", store=store).empty
    assert sn.results(store=tmp_path / "nothing").empty
    with pytest.raises(UsageError, match="stats"):
        sn.results("stats=ok", store=store)


def test_the_store_is_where_it_is_said_to_be(own, tmp_path, monkeypatch):
    monkeypatch.setenv("SECURITYNET_STORE", str(tmp_path / "named"))
    sn.evaluate("mia.loss", own[0], data=own[0] / "images")
    assert len(sn.results()) == 1 and (tmp_path / "named" / "results").is_dir()


def test_a_scan_executes_nothing(own, tmp_path):
    report = sn.scan(own[0] / "net.pt")
    assert (report.verdict, report.format, report.findings) == ("SAFE", "torch-zip", ())
    canary = tmp_path / "canary"
    unsafe = tmp_path / "unsafe.pkl"
    unsafe.write_bytes(b"\x80\x02cos\nsystem\nq\x00X" + len(f"touch {canary}").to_bytes(4, "little")
                       + f"touch {canary}".encode() + b"\x85R.")  # fmt: skip
    report = sn.scan(str(unsafe))
    assert report.verdict == "UNSAFE" and any("os.system" in str(f) for f in report.findings)
    assert not canary.exists()
    with pytest.raises(UsageError, match="no such file"):
        sn.scan(tmp_path / "nothing.pt")


def test_errors_say_what_to_do(own, tmp_path):
    images = own[0] / "images"
    with pytest.raises(UsageError, match=r"akamaster-resnet2.*did you mean"):
        sn.load("community/akamaster-resnet2")
    with pytest.raises(UsageError, match=r"mia.los.*did you mean mia.loss"):
        sn.evaluate("mia.los", own[0], data=images)
    with pytest.raises(UsageError, match="limit"):
        sn.evaluate("mia.loss", own[0], data=images, limit=-1)
    with pytest.raises(UsageError, match="no model"):
        sn.evaluate("mia.loss", [], data=images)
    (tmp_path / "taken").touch()
    with pytest.raises(ResourceError, match="cannot write"):
        sn.evaluate("mia.loss", own[0], data=images, store=tmp_path / "taken")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    whole = (own[0] / "net.safetensors").read_bytes()
    (damaged / "net.safetensors").write_bytes(whole[:-200])
    (damaged / "card.json").write_bytes((own[0] / "card.json").read_bytes())
    with pytest.raises(IntegrityError, match="damaged"):
        sn.load(damaged)
    assert not Path("securitynet-results").exists()
