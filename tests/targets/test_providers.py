"""Every provider's kind of checkpoint, served on loopback, up to the logits of ``sn.load``."""

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest
import torch
from safetensors.torch import save as save_safetensors

import securitynet as sn
from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.errors import IntegrityError, ResourceError
from securitynet.files import download as download_module
from securitynet.targets.architectures_published import published
from securitynet.targets.build import build_module

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Handler(BaseHTTPRequestHandler):
    """Serves what the test put into ``server.files``: path -> (body, headers, status)."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        self.server.seen.append(self.path)
        body, headers, status = self.server.files.get(self.path, (b"", {}, 404))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(loopback, monkeypatch):
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    server = loopback(Handler)
    server.files, server.seen = {}, []
    return server


@pytest.fixture
def serve(server):
    """Return a function that puts a file on the server and returns its address."""

    def serve(path, body, *, status=200, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        server.files[path] = (body, named, status)
        return server.url + path

    return serve


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a card to a file and loads it as a user does."""

    def load(card):
        place = tmp_path / "card.json"
        place.write_text(json.dumps(card.to_json()))
        return sn.load(str(place))

    return load


def make_card(architecture, weights, *, provider="test", n_classes=10, side=32, **spec):
    spec = {"channels": 3, "height": side, "width": side, **spec}
    return ModelCard(
        f"{provider}/model", provider, "model", "generated", n_classes, architecture,
        InputSpec(**spec), weights,
    )  # fmt: skip


def trained(card, shaken):
    """Return the card's module as if it had been trained: weights and statistics differ."""
    torch.manual_seed(1)
    return shaken(build_module(card))


def saved(state, *, zipped=True):
    body = io.BytesIO()
    torch.save(state, body, _use_new_zipfile_serialization=zipped)
    return body.getvalue()


def archived(**members):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return body.getvalue()


def check_logits(target, module, spec, n_classes):
    pixels = torch.rand(3, spec.channels, spec.height, spec.width)
    mean = torch.tensor(spec.mean or (0.0,)).reshape(1, -1, 1, 1)
    std = torch.tensor(spec.std or (1.0,)).reshape(1, -1, 1, 1)
    with torch.no_grad():
        expected = module((pixels - mean) / std)
    found = torch.from_numpy(target.logits(pixels))
    assert found.shape == (3, n_classes) and expected.std() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# pytorchcv: a zip archive, the sha1 is of the member, the names are its own


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "legacy"])
def test_pytorchcv(zipped, serve, load, shaken):
    member = "resnet20_cifar10-0597-451230e9.pth"
    card = make_card("pytorchcv/resnet20_cifar10", Weights(), mean=MEAN, std=STD)
    module = trained(card, shaken)
    body = saved(module.state_dict(), zipped=zipped)
    weights = Weights(
        url=serve("/releases/v0.0.163/model.pth.zip", archived(**{member: body})), member=member,
        checksum=hashlib.sha1(body).hexdigest(), checksum_algorithm="sha1", checksum_of="member",
    )  # fmt: skip
    target = load(replace(card, weights=weights))
    check_logits(target, module, card.input, 10)
    assert target.weights_sha256 == hashlib.sha256(body).hexdigest()


def test_a_wrong_member_is_refused_and_deleted(serve, load, tmp_path, monkeypatch):
    monkeypatch.setenv("SECURITYNET_CACHE", str(tmp_path / "cache"))
    card = make_card(
        "securitynet/cnn_small",
        Weights(
            url=serve("/model.zip", archived(**{"model.pth": b"other bytes"})), member="model.pth",
            checksum="0" * 40, checksum_algorithm="sha1", checksum_of="member",
        ),
    )  # fmt: skip
    with pytest.raises(IntegrityError, match=r"model\.pth in the archive does not have the card's"):
        load(card)
    assert not list((tmp_path / "cache").rglob("sha1-*"))


# torchvision: the first digits of the sha256 are in the file's name


def test_torchvision(serve, load, shaken):
    card = make_card(
        "torchvision/shufflenet_v2_x0_5", Weights(), n_classes=1000, side=224, mean=MEAN, std=STD,
        resize=256,
    )  # fmt: skip
    module = trained(card, shaken)
    body = saved(module.state_dict(), zipped=False)
    weights = Weights(
        url=serve("/models/shufflenetv2_x0.5.pth", body),
        checksum=hashlib.sha256(body).hexdigest()[:8], checksum_algorithm="sha256-prefix",
    )  # fmt: skip
    check_logits(
        load(replace(card, weights=weights, input=replace(card.input, resize=None))),
        module, card.input, 1000,
    )  # fmt: skip


def test_torchvisions_own_weights_normalise_inside_and_drop_training_parts(serve, load, shaken):
    spec = {"n_classes": 20, "side": 64, "mean": MEAN, "std": STD}
    card = make_card("torchvision/googlenet", Weights(), provider="torchvision", **spec)
    module = trained(card, shaken)
    assert module.transform_input and module.aux1 is None
    extra = {f"aux{i}.fc2.weight": torch.rand(20, 8) for i in (1, 2)}
    body = saved({**module.state_dict(), **extra})
    weights = Weights(
        url=serve("/googlenet.pth", body), checksum=hashlib.sha256(body).hexdigest(),
        checksum_algorithm="sha256",
    )  # fmt: skip
    check_logits(load(replace(card, weights=weights)), module, card.input, 20)
    own = build_module(make_card("torchvision/googlenet", Weights(), **spec))
    assert not own.transform_input


# timm: safetensors of the hub at a revision, behind a redirect; no checksum in the card


HUB_PATH = "/timm/model.tag/resolve/0123456789abcdef/model.safetensors"


@pytest.fixture
def hub(server, serve, shaken, monkeypatch):
    """Return a function that serves a timm model as the hub does, and its card and module."""
    monkeypatch.setenv("SECURITYNET_HUB", server.url)

    def hub(named_sha256=None, **spec):
        weights = Weights(url=f"https://huggingface.co{HUB_PATH}", revision="0123456789abcdef")
        card = make_card("timm/test_resnet.r160_in1k", weights, n_classes=1000, side=64, **spec)
        module = trained(card, shaken)
        body = save_safetensors(module.state_dict())
        sha256 = named_sha256 or hashlib.sha256(body).hexdigest()
        serve("/storage/blob", body, Content_Type="application/octet-stream")
        serve(HUB_PATH, b"", status=302, Location="/storage/blob", X_Linked_ETag=f'"{sha256}"')
        return card, module, body

    return hub


@pytest.mark.parametrize("suffix", ["", "/datasets", "/"])
def test_timm(suffix, hub, load, server, monkeypatch):
    card, module, body = hub(mean=MEAN, std=STD)
    monkeypatch.setenv("SECURITYNET_HUB", server.url + suffix)
    target = load(card)
    check_logits(target, module, card.input, 1000)
    assert target.weights_sha256 == hashlib.sha256(body).hexdigest()
    assert server.seen == [HUB_PATH, "/storage/blob"]
    load(card)
    assert len(server.seen) == 2  # from the cache


def test_the_hubs_own_checksum_is_checked(hub, load):
    card, _, _ = hub(named_sha256="0" * 64)
    with pytest.raises(IntegrityError, match="sha256 is not 0000"):
        load(card)


def test_a_moved_file_without_a_checksum_is_noticed(hub, load, serve, server, tmp_path):
    card, _, body = hub()
    load(card)
    for path in (tmp_path / "cache" / "downloads").glob("first-*[!n]"):
        path.unlink()
    serve("/storage/blob", body[:-4] + b"\0\0\0\1")
    with pytest.raises(IntegrityError, match="sha256 is not"):
        load(card)


# MedMNIST: a large archive per data set with many members, the state dict under "net"


@pytest.mark.parametrize("folder", ["", "weights_bloodmnist__"])
def test_medmnist(folder, serve, load, shaken, server):
    spec = {"n_classes": 8, "side": 28, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    names = ["resnet18_28_1.pth", "resnet18_28_2.pth", "resnet50_28_1.pth"]
    card = make_card("securitynet/cifar_stem_resnet18", Weights(), **spec)
    module = trained(card, shaken)
    members = {f"{folder}{name}": b"not asked for" for name in names}
    members[f"{folder}{names[1]}"] = saved({"net": module.state_dict()}, zipped=False)
    archive = archived(**members)
    weights = Weights(
        url=serve("/records/7782114/files/weights_bloodmnist.zip", archive), member=names[1],
        checksum=hashlib.md5(archive).hexdigest(), checksum_algorithm="md5", state_key="net",
    )  # fmt: skip
    check_logits(load(replace(card, weights=weights)), module, card.input, 8)
    with pytest.raises(Exception, match="UNDECIDED: a text, not a checkpoint"):
        load(replace(card, weights=replace(weights, member=names[0])))
    assert len(server.seen) == 1  # the archive is fetched once for all its members


# robustness library, and wide networks of the zoo


def test_robust_models_transfer(serve, load, shaken):
    card = make_card("torchvision/resnet18", Weights(), n_classes=9, mean=MEAN, std=STD)
    module = trained(card, shaken)
    state = {}
    for place in ("module.model.", "module.attacker.model."):
        state |= {place + name: tensor for name, tensor in module.state_dict().items()}
    for place in ("module.normalizer.", "module.attacker.normalize."):
        state |= {f"{place}new_mean": torch.tensor(MEAN).reshape(3, 1, 1)}
        state |= {f"{place}new_std": torch.tensor(STD).reshape(3, 1, 1)}
    body = saved({"model": state, "epoch": 89, "schedule": None})
    weights = Weights(url=serve("/resnet18_l2_eps0.ckpt", body), state_key="model")
    check_logits(load(replace(card, weights=weights)), module, card.input, 9)


def test_robustbench_from_a_drive_like_address(serve, load, shaken):
    options = {"depth": 10, "widen_factor": 1, "sub_block1": True}
    name = {"name": "securitynet/wide_resnet", "options": options}
    card = make_card(name, Weights())
    module = trained(card, shaken)
    body = saved({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}})
    weights = Weights(url=serve("/uc?id=1Ab_c", body))
    check_logits(load(replace(card, weights=weights)), module, card.input, 10)


def test_a_file_without_checksum_is_found_in_a_mirror_by_its_id(
    load, shaken, tmp_path, monkeypatch
):
    card = make_card("securitynet/cifar_stem_resnet18", Weights(url="https://host.invalid/x"))
    module = trained(card, shaken)
    place = tmp_path / "mirror" / "test" / "model.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(saved(module.state_dict()))
    monkeypatch.setenv("SECURITYNET_MIRROR", str(tmp_path / "mirror"))
    check_logits(load(card), module, card.input, 10)


# what is not the checkpoint

PAGE = b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (PAGE, "text/html; charset=utf-8", "sent a web page instead of the file"),
        (PAGE, "application/octet-stream", "sent a web page instead of the file"),
        (POINTER, "application/octet-stream", "sent a git-lfs pointer instead of the file"),
    ],
)
@pytest.mark.parametrize("member", [None, "model.pth"])
def test_a_page_is_never_a_checkpoint(body, content_type, words, member, serve, load, tmp_path):
    url = serve("/uc?id=1", body, Content_Type=content_type)
    with pytest.raises(IntegrityError, match=words) as caught:
        load(make_card("securitynet/cnn_small", Weights(url=url, member=member)))
    assert "\n" not in str(caught.value)
    kept = [path for path in (tmp_path / "cache" / "downloads").iterdir() if path.is_file()]
    assert [path.name for path in kept if not path.name.endswith(".lock")] == []


def test_drive_is_named_and_says_what_to_do():
    address = "https://drive.google.com/uc?id=1"
    error = download_module._other_file("a web page", address)
    assert "Google Drive sent a web page" in str(error) and "SECURITYNET_MIRROR" in error.hint
    assert download_module._asked(address) == f"{address}&export=download&confirm=t"
    assert download_module._asked("https://host.org/uc?id=1") == "https://host.org/uc?id=1"


def test_a_truncated_download_is_not_believed(serve, load):
    url = serve("/cut", b"x" * 100, Content_Length="1000")
    with pytest.raises(ResourceError, match="cannot download: got 100 of 1,000 bytes"):
        load(make_card("securitynet/cnn_small", Weights(url=url)))


def test_a_wrong_checksum_is_refused(serve, load):
    weights = Weights(url=serve("/model", b"bytes"), checksum="0" * 64, checksum_algorithm="sha256")
    with pytest.raises(IntegrityError, match="sha256 is not 0000"):
        load(make_card("securitynet/cnn_small", weights))


def test_mirrors_are_asked_when_the_address_fails(serve, load, shaken, server):
    card = make_card("securitynet/cifar_stem_resnet18", Weights())
    module = trained(card, shaken)
    body = saved(module.state_dict())
    second = serve("/second", body)
    weights = Weights(
        url=f"{server.url}/gone", mirrors=(serve("/page", PAGE), second),
        checksum=hashlib.sha256(body).hexdigest(), checksum_algorithm="sha256",
    )  # fmt: skip
    check_logits(load(replace(card, weights=weights)), module, card.input, 10)
    assert server.seen == ["/gone", "/page", "/second"]


def test_the_first_address_is_named_when_all_fail(serve, load, server):
    weights = Weights(url=f"{server.url}/gone", mirrors=(serve("/page", PAGE),))
    with pytest.raises(ResourceError, match=r"/gone: HTTP 404"):
        load(make_card("securitynet/cnn_small", weights))


def test_a_small_published_network_loads_under_its_files_names(serve, load, shaken):
    """The constants of the file are its own, not the card's."""
    name = {"name": "securitynet/cifar_stem_resnet18", "options": {"constants": "file"}}
    card = make_card(name, Weights())
    module = trained(card, shaken)
    plain = published("cifar_stem_resnet18", 10, 3, {}).state_dict().keys()
    module.mu.fill_(0.4)
    module.sigma.fill_(0.25)
    state = {name.removeprefix("net."): tensor for name, tensor in module.state_dict().items()}
    assert state.keys() == plain | {"mu", "sigma"}
    weights = Weights(url=serve("/resnet18.pt", saved(state)))
    check_logits(load(replace(card, weights=weights)), module, card.input, 10)
