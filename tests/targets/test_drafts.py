"""Drafts of cards: what is measured is right, and what cannot be known stays null."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from securitynet.catalogue.cards import parse_card
from securitynet.errors import IntegrityError, ResourceError, UnsafeFileError
from securitynet.files.digest import digest
from securitynet.targets import drafts, signatures
from securitynet.targets.build import load_target
from securitynet.targets.drafts import blank_module, draft_card
from securitynet.targets.signatures import (
    CHANNELS,
    CLASSES,
    Growing,
    Match,
    growing,
    lines,
    recognise,
    shapes_of,
    signature,
    table,
)


def state_of(name, num_classes=7, channels=3):
    torch.manual_seed(0)
    return blank_module(Match(name, num_classes, channels)).state_dict()


def shapes(state):
    return shapes_of((name, tensor.shape) for name, tensor in state.items())


@pytest.fixture
def checkpoint(tmp_path):
    """Write the weights of an architecture, or any tensors; returns the file."""

    def write(state, name="net.safetensors"):
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
        else:
            torch.save(state, path)
        return path

    return write


def test_an_own_network_is_recognised_with_classes_and_channels(checkpoint):
    path = checkpoint(state_of("securitynet/cifar_resnet20_b", num_classes=7, channels=1))
    draft = draft_card(path)
    assert draft.architectures == ("securitynet/cifar_resnet20_b",)
    card = draft.card
    assert (card["architecture"], card["num_classes"]) == ("securitynet/cifar_resnet20_b", 7)
    assert card["input"] == {
        "channels": 1,
        "height": None,
        "width": None,
        "mean": None,
        "std": None,
    }
    assert card["weights"]["checksum"] == digest(path)
    assert card["weights"]["bytes"] == path.stat().st_size
    assert (card["weights"]["format"], card["weights"]["state_key"]) == ("safetensors", None)
    module = blank_module(Match("securitynet/cifar_resnet20_b", 7, 1))
    assert card["params"] == sum(p.numel() for p in module.parameters())
    assert card["dataset"] is None and card["weights"]["licence"] is None


def test_a_wrapped_legacy_file_is_recognised_too(checkpoint):
    state = {f"module.{name}": value for name, value in state_of("securitynet/cnn_small").items()}
    path = checkpoint({"epoch": 3, "state_dict": state}, "net.pth")
    draft = draft_card(path)
    assert draft.card["architecture"] == "securitynet/cnn_small"
    assert draft.card["weights"]["state_key"] == "state_dict"
    assert draft.card["weights"]["format"] == "torch-zip"


def test_a_draft_that_is_filled_in_is_a_card_that_runs(checkpoint, tmp_path):
    path = checkpoint(state_of("securitynet/cnn_small", num_classes=4))
    card = draft_card(path).card
    card["dataset"], card["input"] = "mine", card["input"] | {"height": 32, "width": 32}
    target = load_target(parse_card(card, where="test", folder=tmp_path))
    assert target.card.num_classes == 4


def test_batch_counters_may_be_missing(checkpoint):
    state = state_of("securitynet/cnn_small")
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    assert len(old) < len(state)
    assert draft_card(checkpoint(old)).card["architecture"] == "securitynet/cnn_small"


@pytest.mark.parametrize("change", ["lacks one", "has one more", "another width", "two classes"])
def test_an_architecture_is_claimed_only_if_everything_fits(checkpoint, change):
    state = dict(state_of("securitynet/cifar_resnet20_b"))
    if change == "lacks one":
        del state["layer1.0.conv1.weight"]
    elif change == "has one more":
        state["extra"] = torch.zeros(3)
    elif change == "another width":
        state["layer1.0.conv1.weight"] = torch.zeros(16, 16, 5, 5)
    else:
        state["linear.bias"] = torch.zeros(8)
    draft = draft_card(checkpoint(state))
    assert draft.architectures == () and draft.card["architecture"] is None
    assert draft.card["params"] is None
    assert any("no known one has exactly these tensors" in line for line in draft.advice)


def test_of_an_unknown_network_only_what_shapes_say_is_drafted(checkpoint):
    state = {"a.weight": torch.zeros(8, 3, 5, 5), "fc.weight": torch.zeros(12, 8),
             "fc.bias": torch.zeros(12)}  # fmt: skip
    card = draft_card(checkpoint(state)).card
    assert (card["num_classes"], card["input"]["channels"]) == (12, 3)
    bare = {"w": torch.zeros(5, 4), "conv.weight": torch.zeros(4, 1, 3, 3)}
    draft = draft_card(checkpoint(bare, "bare.safetensors"))
    assert (draft.card["num_classes"], draft.card["input"]["channels"]) == (None, None)
    named = [line.partition(":")[0] for line in draft.advice]
    assert {"architecture", "dataset", "num_classes", "input.channels"} <= set(named)


class Twin(nn.Module):
    """Two of these have the same tensors; ``factor`` is what tells them apart."""

    def __init__(self, factor):
        super().__init__()
        self.fc = nn.Linear(3, 5)
        self.factor = factor

    def forward(self, inputs):
        return self.fc(inputs.mean((2, 3)) * self.factor)


@pytest.mark.parametrize(("factors", "chosen"), [((1, 1), "lib/a"), ((1, 2), None)])
def test_several_that_fit_are_told_apart_by_their_outputs(checkpoint, monkeypatch, factors, chosen):
    both = dict(zip(("lib/a", "lib/b"), factors, strict=True))
    monkeypatch.setattr(drafts, "blank_module", lambda match: Twin(both[match.architecture]))
    monkeypatch.setattr(drafts, "recognise", lambda _: [Match(name, 5, 3) for name in both])
    draft = draft_card(checkpoint(Twin(1).state_dict()))
    assert draft.architectures == ("lib/a", "lib/b")
    assert draft.card["architecture"] == chosen and draft.card["num_classes"] == 5
    assert ("2 kinds have exactly these tensors" in " ".join(draft.advice)) == (not chosen)


def test_kinds_are_named_with_what_is_the_same(checkpoint, monkeypatch):
    factors = {"lib/a": 1, "lib/b": 2, "lib/c": 1}
    monkeypatch.setattr(drafts, "blank_module", lambda match: Twin(factors[match.architecture]))
    monkeypatch.setattr(drafts, "recognise", lambda _: [Match(name, 5, 3) for name in factors])
    draft = draft_card(checkpoint(Twin(1).state_dict()))
    assert draft.card["architecture"] is None and "lib/a = lib/c; lib/b" in draft.advice[0]


@pytest.mark.long
def test_networks_that_differ_by_little_are_told_apart(checkpoint):
    """Padding tells the two apart, and fresh weights give tiny logits."""
    draft = draft_card(checkpoint(state_of("timm/tf_efficientnet_b0")))
    assert draft.card["architecture"] is None and draft.card["num_classes"] == 7
    assert {"timm/efficientnet_b0", "timm/tf_efficientnet_b0"} <= set(draft.architectures)


def test_too_many_that_fit_are_only_listed(checkpoint, monkeypatch):
    names = [f"lib/{i}" for i in range(drafts.MOST + 1)]
    monkeypatch.setattr(drafts, "blank_module", lambda match: Twin(1))
    monkeypatch.setattr(drafts, "recognise", lambda _: [Match(name, 5, 3) for name in names])
    draft = draft_card(checkpoint(Twin(1).state_dict()))
    assert draft.card["architecture"] is None and "7 kinds" in draft.advice[0]


def test_damaged_foreign_and_hostile_files_do_not_come_through(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    damaged = tmp_path / "damaged.safetensors"
    save_file({"w": torch.zeros(100)}, damaged)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    with pytest.raises(IntegrityError):
        draft_card(damaged)
    torch.save({"w": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeFileError):
        draft_card(tmp_path / "evil.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(IntegrityError):
        draft_card(tmp_path / "empty.pth")
    with pytest.raises(ResourceError):
        draft_card(tmp_path / "missing.pth")


def test_the_table_is_of_its_form_and_in_order():
    names = [name for group in table().values() for found in group.values() for name in found]
    assert len(names) == len(set(names)) >= 70
    assert {name.partition("/")[0] for name in names} >= {"securitynet", "torchvision"}
    for parts, group in table().items():
        assert parts.classes and all(len(digest) == signatures.DIGITS for digest in group)


@pytest.mark.parametrize("name", ["securitynet/cifar_resnet20_a", "torchvision/resnet18",
                                  "torchvision/vit_b_16", "torchvision/squeezenet1_1"])  # fmt: skip
def test_the_table_says_what_the_libraries_build_today(name):
    with torch.device("meta"):
        state = blank_module(Match(name, 11, 3)).state_dict()
    found = {match.architecture: match for match in recognise(shapes(state))}
    assert found[name] == Match(name, 11, 3)


def test_a_line_is_written_for_what_can_be_described():
    (line,) = lines(["securitynet/cifar_resnet20_a", "securitynet/unheard_of"])
    name, digest, classes, channels = line.split("\t")
    parts = Growing(tuple(classes.split(",")), (channels,))
    assert name == "securitynet/cifar_resnet20_a"
    assert parts == Growing(("linear.bias", "linear.weight"), ("conv1.weight",))
    assert table()[parts][digest] == (name,)


def test_what_grows_is_found_by_its_sides():
    made = {"head": (CLASSES, 4), "stem": (8, CHANNELS, 3, 3), "body": (8, 8)}
    parts = growing(made)
    assert parts == Growing(("head",), ("stem",))
    other = {"head": (10, 4), "stem": (8, 1, 3, 3), "body": (8, 8)}
    assert signature(made, parts) == signature(other, parts)
    assert signature(made, parts) != signature(made | {"body": (8, 9)}, parts)
    assert growing({"body": (8, 8)}) is None and growing({"odd": (4, CLASSES)}) is None
    assert json.loads(json.dumps(made))


@pytest.mark.public
def test_a_public_checkpoint_is_recognised(public_models, tmp_path):
    name = "akamaster-resnet20.th"
    (tmp_path / name).write_bytes((public_models / name).read_bytes())
    card = draft_card(tmp_path / name).card
    assert (card["architecture"], card["num_classes"]) == ("securitynet/cifar_resnet20_a", 10)
    assert (card["params"], card["input"]["channels"]) == (269_722, 3)
