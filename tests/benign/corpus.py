"""Benign checkpoints as people publish them: every provider's networks in every usual wrapper.

``cases()`` lists them; ``Case.write`` makes one. Weights are random, the wrappers and containers
are those that training scripts and libraries write: this is what a door must not refuse.
"""

import argparse
import contextlib
import functools
import io
import random
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import swa_utils

from securitynet.catalogue.cards import InputSpec, ModelCard, Weights
from securitynet.targets.build import build_module

STEM = {"depth": 10, "widen_factor": 1}
NETWORKS = {
    "pytorchcv": [
        "pytorchcv/resnet20_cifar10", "pytorchcv/seresnet20_cifar10",
        "pytorchcv/preresnet20_cifar10", "pytorchcv/densenet40_k12_bc_cifar10",
        "pytorchcv/nin_cifar10", "pytorchcv/diaresnet20_cifar10",
    ],
    "timm": [
        "timm/test_resnet", "timm/test_vit", "timm/test_convnext", "timm/test_efficientnet",
        "timm/test_mambaout", "timm/test_nfnet", "timm/test_vit_relpos", "timm/test_byobnet",
    ],
    "torchvision": [
        "torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1",
        "torchvision/mobilenet_v3_small", "torchvision/mnasnet0_5",
    ],
    "robustbench": [
        {"name": "securitynet/wide_resnet", "options": {**STEM, "sub_block1": True}},
        {"name": "securitynet/wide_resnet", "options": STEM},
        {"name": "securitynet/pssilu_wide_resnet", "options": STEM},
        {"name": "securitynet/dm_wide_resnet", "options": {"depth": 10, "width": 1}},
        {"name": "securitynet/staged_wide_resnet",
         "options": {"channels": [8, 8, 16, 16], "depths": [1, 1, 1]}},
    ],
    "ivrl": ["securitynet/ivrl_lenet"],
    "community": [
        "securitynet/cifar_resnet20_a", "securitynet/cifar_resnet20_b", "securitynet/cnn_small",
        ({"conv2d": [3, 16, 4, 2, 1]}, "relu", "flatten", {"linear": [4096, 10]}),
        ("flatten", {"linear": [3072, 20]}, "relu", {"linear": [20, 10]}),
    ],
}  # fmt: skip
"""Small networks of every provider; MedMNIST's and other large ones are in `LARGE`."""
LARGE = {
    "medmnist": "securitynet/cifar_stem_resnet18",
    "ivrl": "securitynet/ivrl_resnet18",
    "torchvision": "torchvision/resnet18",
    "robustbench": "securitynet/preact_resnet18",
}


def card_of(provider: str, architecture: Any) -> ModelCard:
    """Return the card of a network for ten classes of small colour images."""
    spec = InputSpec(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ModelCard(
        f"{provider}/model", provider, "model", "generated", 10, architecture, spec, Weights()
    )


@functools.lru_cache(maxsize=32)
def _network(provider: str, index: int) -> nn.Module:
    torch.manual_seed(index)
    card = card_of(provider, architecture_of(provider, index))
    module = build_module(card)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                tensor.uniform_(0.5, 1.5)
            if name.endswith("num_batches_tracked"):
                tensor.fill_(391)
    return module


def architecture_of(provider: str, index: int) -> Any:
    """Return a network's architecture as a card names it; -1 is the large one."""
    return LARGE[provider] if index < 0 else NETWORKS[provider][index]


# Wrappers: from a module to what a training script would save


def state(module: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """Return the state dict, of tensors that are not shared with the module."""
    return OrderedDict((name, tensor.clone()) for name, tensor in module.state_dict().items())


def prefixed(module: nn.Module, prefix: str) -> OrderedDict[str, torch.Tensor]:
    """Return the state dict with a prefix before every name."""
    return OrderedDict((prefix + name, tensor) for name, tensor in state(module).items())


def cast(module: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the state dict with all real numbers in another type."""
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in state(module).items()}


def trained(module: nn.Module, kind: type[torch.optim.Optimizer], **options: Any) -> Any:
    """Return an optimizer that has taken a step, so that it has a state."""
    parameters = [nn.Parameter(torch.rand(4, 3)) for _ in range(2)]
    optimizer = kind(parameters, **options)
    sum((parameter**2).sum() for parameter in parameters).backward()
    optimizer.step()
    return optimizer


def sgd(module: nn.Module) -> Any:
    """Return an SGD optimizer with momentum."""
    return trained(module, torch.optim.SGD, lr=0.1, momentum=0.9)


def decay(epoch: int) -> float:
    """Return a learning rate's factor."""
    return 1 / (epoch + 1)


def schedule(module: nn.Module, kind: Any, **options: Any) -> dict[str, Any]:
    """Return the state of a learning rate schedule."""
    return kind(sgd(module), **options).state_dict()


def flat(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return tensors that are views into one storage a type, as flattening optimizers leave."""
    found, whole = state(module), {}
    for dtype in {tensor.dtype for tensor in found.values()}:
        of_type = {name: tensor for name, tensor in found.items() if tensor.dtype == dtype}
        storage = torch.cat([tensor.flatten() for tensor in of_type.values()])
        position = 0
        for name, tensor in of_type.items():
            whole[name] = storage[position : position + tensor.numel()].view(tensor.shape)
            position += tensor.numel()
    return {name: whole[name] for name in found}


def strided(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return tensors stored transposed, or as every second element of a longer storage."""

    def spread(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() >= 2:
            return tensor.transpose(0, 1).contiguous().transpose(0, 1)
        return torch.stack([tensor, tensor], -1)[..., 0]

    return {name: spread(tensor) for name, tensor in state(module).items()}


def channels_last(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return convolutions in the memory format of channels last."""
    last = torch.channels_last
    return {
        name: tensor.contiguous(memory_format=last) if tensor.dim() == 4 else tensor
        for name, tensor in state(module).items()
    }


def parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters as they are, not their tensors."""
    own = dict(module.named_parameters())
    return {name: own.get(name, tensor) for name, tensor in state(module).items()}


def averaged(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of torch's own averaged model: a counter, and names below ``module.``."""
    return swa_utils.AveragedModel(module).state_dict()


def shaken(module: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """Return other weights of the same network, e.g. those that were not averaged."""
    return OrderedDict((k, v * 0.5 if v.is_floating_point() else v) for k, v in
                       state(module).items())  # fmt: skip


def robust(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what the robustness library saves: an attacker's copy and normalisers beside it."""
    copies = {**prefixed(module, "module.model."), **prefixed(module, "module.attacker.model.")}
    for place in ("module.normalizer.new_", "module.attacker.normalize.new_"):
        copies |= {f"{place}mean": torch.full((3, 1, 1), 0.5)}
        copies |= {f"{place}std": torch.full((3, 1, 1), 0.25)}
    return copies


def lightning(module: nn.Module, prefix: str, callbacks: Any) -> dict[str, Any]:
    """Return what PyTorch Lightning saves."""
    return {
        "epoch": 99, "global_step": 39100, "pytorch-lightning_version": "2.1.0",
        "state_dict": prefixed(module, prefix),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 100}}}},
        "callbacks": callbacks, "optimizer_states": [sgd(module).state_dict()],
        "lr_schedulers": [schedule(module, torch.optim.lr_scheduler.StepLR, step_size=30)],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1, "depth": 20, "name": "resnet"},
    }  # fmt: skip


BEST = {"monitor": "val_acc", "best_model_score": torch.tensor(0.93), "best_k_models": {}}
MODEL_CHECKPOINT = "pytorch_lightning.callbacks.model_checkpoint"


def old_lightning(module: nn.Module) -> dict[str, Any]:
    """Return what old PyTorch Lightning saves: callbacks by their class."""
    kind = sys.modules[MODEL_CHECKPOINT].ModelCheckpoint  # type: ignore[attr-defined]
    return lightning(module, "model.", {kind: BEST})


@contextlib.contextmanager
def script_is_there() -> Any:
    """Have the class of a training script that is not installed, for pickles that name it."""
    package = types.ModuleType(MODEL_CHECKPOINT)
    kind = type("ModelCheckpoint", (), {"__module__": MODEL_CHECKPOINT})
    package.ModelCheckpoint = kind  # type: ignore[attr-defined]
    parts = MODEL_CHECKPOINT.split(".")
    names = [".".join(parts[:i]) for i in range(1, len(parts))]
    before = {name: sys.modules.get(name) for name in (*names, MODEL_CHECKPOINT)}
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[MODEL_CHECKPOINT] = package
    try:
        yield
    finally:
        for name, old in before.items():
            sys.modules.pop(name)
            if old is not None:
                sys.modules[name] = old


ARGUMENTS = argparse.Namespace(lr=0.1, arch="resnet20", milestones=[100, 150], resume=None, gpu=0)
LR = torch.optim.lr_scheduler


@dataclass(frozen=True)
class Wrapper:
    """How a training script saves a module.

    Attributes:
        make: From the module to the object that is saved.
        place: Keys that lead to the state dict.
        prefix: What the door strips from every name.
        state_key: What the card has to say, ``None`` = nothing.
        dtype: Type that real numbers have in the file.
    """

    make: Callable[[nn.Module], Any]
    place: tuple[str | int, ...] = ()
    prefix: str = ""
    state_key: str | None = None
    dtype: torch.dtype | None = None


WRAPPERS: dict[str, Wrapper] = {
    "state dict": Wrapper(state),
    "plain dict": Wrapper(lambda m: dict(state(m))),
    "epoch and accuracy": Wrapper(
        lambda m: {"state_dict": state(m), "epoch": 199, "best_prec1": 92.6, "arch": "resnet20"},
        ("state_dict",),
    ),
    "net": Wrapper(lambda m: {"net": state(m), "acc": 95.1, "epoch": 161}, ("net",)),
    "milestones": Wrapper(
        lambda m: {
            "model": state(m), "optimizer": sgd(m).state_dict(), "epoch": 3,
            "lr_scheduler": schedule(m, LR.MultiStepLR, milestones=[100, 150]),
        },
        ("model",),
    ),
    "model_state_dict": Wrapper(
        lambda m: {
            "epoch": 4, "model_state_dict": state(m), "loss": torch.tensor(0.3),
            "optimizer_state_dict": trained(m, torch.optim.Adam, lr=1e-3).state_dict(),
        },
        ("model_state_dict",),
    ),
    "one cycle": Wrapper(
        lambda m: {
            "model": state(m),
            "optim": trained(m, torch.optim.AdamW, amsgrad=True).state_dict(),
            "sched": schedule(m, LR.CosineAnnealingLR, T_max=200), "scaler": {"scale": 65536.0},
        },
        ("model",),
    ),
    "lambda schedule": Wrapper(
        lambda m: {"network": state(m), "schedule": schedule(m, LR.LambdaLR, lr_lambda=decay)},
        ("network",),
    ),
    "DataParallel": Wrapper(lambda m: nn.DataParallel(m).state_dict(), (), "module."),
    "ImageNet example": Wrapper(
        lambda m: {
            "epoch": 90, "arch": "resnet18", "state_dict": prefixed(m, "module."),
            "best_acc1": torch.tensor(69.7), "optimizer": sgd(m).state_dict(),
        },
        ("state_dict",), "module.",
    ),
    "nested module": Wrapper(
        lambda m: {"state_dict": prefixed(m, "module.module.")}, ("state_dict",), "module.module."
    ),
    "compiled": Wrapper(lambda m: prefixed(m, "_orig_mod."), (), "_orig_mod."),
    "compiled and parallel": Wrapper(
        lambda m: {"model": prefixed(m, "module._orig_mod.")}, ("model",), "module._orig_mod."
    ),
    "parallel and compiled": Wrapper(
        lambda m: {"model": prefixed(m, "_orig_mod.module.")}, ("model",), "_orig_mod.module."
    ),
    "averaged": Wrapper(averaged, (), "module."),
    "averaged beside": Wrapper(
        lambda m: {"model": shaken(m), "model_ema": averaged(m), "epoch": 1},
        ("model_ema",), "module.", state_key="model_ema",
    ),
    "timm": Wrapper(
        lambda m: {
            "epoch": 299, "arch": "resnet18", "state_dict": state(m), "state_dict_ema": shaken(m),
            "optimizer": sgd(m).state_dict(), "version": 2, "args": ARGUMENTS, "metric": 80.4,
            "amp_scaler": {"scale": 1024.0, "growth_factor": 2.0},
        },
        ("state_dict",),
    ),
    "timm, averaged": Wrapper(
        lambda m: {"state_dict": shaken(m), "state_dict_ema": prefixed(m, "module."), "epoch": 1},
        ("state_dict_ema",), "module.", state_key="state_dict_ema",
    ),
    "averaged alone": Wrapper(lambda m: {"model_ema": state(m)}, ("model_ema",)),
    "averaged names": Wrapper(lambda m: {"ema": prefixed(m, "ema.")}, ("ema",)),
    "Lightning": Wrapper(
        lambda m: lightning(m, "model.", {"ModelCheckpoint{'monitor': 'val_acc'}": BEST}),
        ("state_dict",),
    ),
    "Lightning, net": Wrapper(lambda m: lightning(m, "net.", {}), ("state_dict",)),
    "old Lightning": Wrapper(old_lightning, ("state_dict",)),
    "numpy scalars": Wrapper(
        lambda m: {
            "state_dict": state(m), "best_acc": np.float64(93.2), "epoch": np.int64(180),
            "losses": [np.float32(0.5)] * 3, "is_best": np.bool_(True),
        },
        ("state_dict",),
    ),
    "histories": Wrapper(
        lambda m: {
            "state_dict": state(m), "history": {"loss": [0.9, 0.5], "acc": [], "note": "α=1"},
            "seen": {1, 2}, "rng": [torch.get_rng_state(), random.Random(0).getstate()],
        },
        ("state_dict",),
    ),
    "options": Wrapper(lambda m: {"args": ARGUMENTS, "weights": state(m)}, ("weights",)),
    "torch's own things": Wrapper(
        lambda m: {
            "params": state(m), "device": torch.device("cuda:0"), "dtype": torch.float16,
            "shape": torch.Size([3, 32, 32]), "classes": ("cat", "dog"),
        },
        ("params",),
    ),
    "a list": Wrapper(lambda m: {"state_dict": [state(m)], "err": [0.1, 0.2]}, ("state_dict", 0)),
    "a pair": Wrapper(lambda m: (state(m), 12), (0,)),
    "twice wrapped": Wrapper(
        lambda m: {"model": {"state_dict": prefixed(m, "module."), "epoch": 3}},
        ("model", "state_dict"), "module.",
    ),
    "a name of its own": Wrapper(lambda m: {"resnet": state(m), "step": 7}, ("resnet",)),
    "robustness": Wrapper(lambda m: {"model": robust(m), "epoch": 89}, ("model",), "module."),
    "parameters": Wrapper(parameters),
    "views": Wrapper(flat),
    "strided": Wrapper(strided),
    "channels last": Wrapper(lambda m: {"state_dict": channels_last(m)}, ("state_dict",)),
    "no counters": Wrapper(
        lambda m: {k: v for k, v in state(m).items() if not k.endswith("num_batches_tracked")}
    ),
    "half": Wrapper(lambda m: cast(m, torch.float16), dtype=torch.float16),
    "bfloat16": Wrapper(
        lambda m: {"model": cast(m, torch.bfloat16)}, ("model",), dtype=torch.bfloat16
    ),
    "double": Wrapper(lambda m: {"net": cast(m, torch.float64)}, ("net",), dtype=torch.float64),
}  # fmt: skip
ARRAYS = {
    "arrays": Wrapper(lambda m: {name: tensor.numpy() for name, tensor in state(m).items()}),
    "arrays in Fortran order": Wrapper(
        lambda m: {"state_dict": {n: np.asarray(t, order="F") for n, t in state(m).items()}},
        ("state_dict",),
    ),
    "array histories": Wrapper(
        lambda m: {"net": state(m), "losses": np.arange(3.0), "rng": np.random.RandomState(0)
                   .get_state()},
        ("net",),
    ),
}  # fmt: skip
"""What holds numpy arrays; protocol 5 writes those otherwise."""


@dataclass(frozen=True)
class Container:
    """How the object becomes a file.

    Attributes:
        suffix: End of the file's name.
        protocol: Pickle protocol.
        is_zip: Torch's zip container, not the old one.
        device: Where the tensors seem to have been.
        member: The file is in a zip archive under this name.
    """

    suffix: str
    protocol: int = 2
    is_zip: bool = True
    device: str = "cpu"
    member: str | None = None


CONTAINERS = {
    "zip": Container(".pt"),
    "legacy": Container(".pth", is_zip=False),
    "zip, protocol 3": Container(".ckpt", 3),
    "legacy, protocol 3": Container(".th", 3, is_zip=False),
    "zip, protocol 4": Container(".pth", 4),
    "legacy, protocol 4": Container(".pt", 4, is_zip=False),
    "zip, protocol 5": Container(".bin", 5),
    "legacy, protocol 5": Container(".pth.tar", 5, is_zip=False),
    "zip, CUDA": Container(".pth", device="cuda:0"),
    "legacy, CUDA": Container(".pth.tar", is_zip=False, device="cuda:3"),
    "zip in an archive": Container(".zip", member="weights/model.pth"),
    "legacy in an archive": Container(".zip", is_zip=False, member="resnet.pth"),
}
SAFETENSORS = Container(".safetensors")


@dataclass(frozen=True)
class Case:
    """One benign checkpoint.

    Attributes:
        name: What it is, in words; unique.
        provider: Whose network it is.
        index: Which of its networks.
        wrapper: How the module was saved.
        container: In what kind of file.
    """

    name: str
    provider: str
    index: int
    wrapper: Wrapper
    container: Container

    @property
    def card(self) -> ModelCard:
        """The model's card, without its weights."""
        return card_of(self.provider, architecture_of(self.provider, self.index))

    @property
    def module(self) -> nn.Module:
        """The network whose weights are in the file."""
        return _network(self.provider, self.index)

    def content(self) -> bytes:
        """Return the checkpoint's bytes."""
        body = io.BytesIO()
        with script_is_there(), _seems_on(self.container.device):
            torch.save(
                self.wrapper.make(self.module), body, pickle_protocol=self.container.protocol,
                _use_new_zipfile_serialization=self.container.is_zip,
            )  # fmt: skip
        return body.getvalue()

    def write(self, path: Any) -> None:
        """Write the file that a user would download."""
        if self.container is SAFETENSORS:
            save_file(self.wrapper.make(self.module), path)
            return
        if self.container.member is None:
            path.write_bytes(self.content())
            return
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("README.md", "benign")
            archive.writestr(self.container.member, self.content())

    def weights(self, path: Any) -> Weights:
        """Return what the card says of the file."""
        return Weights(
            path=str(path), member=self.container.member, state_key=self.wrapper.state_key
        )

    def trusted(self, content: bytes) -> dict[str, torch.Tensor]:
        """Load our own checkpoint without any door: the truth."""
        with script_is_there():
            found = torch.load(io.BytesIO(content), weights_only=False, map_location="cpu")
        for key in self.wrapper.place:
            found = found[key]
        tensors = {name: torch.as_tensor(value) for name, value in found.items()}
        return {name.removeprefix(self.wrapper.prefix): tensors[name] for name in tensors}


@contextlib.contextmanager
def _seems_on(device: str) -> Any:
    """Have torch write another device than the one that the tensors are on."""
    before = torch.serialization.location_tag
    if device != "cpu":
        torch.serialization.location_tag = lambda storage: device
    try:
        yield
    finally:
        torch.serialization.location_tag = before


SIMPLE = [(provider, i) for provider, found in NETWORKS.items() for i in range(len(found))]


def cases() -> list[Case]:
    """Return all of them: wrappers by containers, over all networks in turn."""
    found, names = [], list(CONTAINERS)
    for i, (kind, wrapper) in enumerate({**WRAPPERS, **ARRAYS}.items()):
        others = [name for name in names[2:] if kind not in ARRAYS or "5" not in name]
        for j, place in enumerate(("zip", "legacy", others[i % len(others)])):
            provider, index = SIMPLE[(3 * i + j * 7) % len(SIMPLE)]
            found.append(_case(kind, wrapper, place, CONTAINERS[place], provider, index))
    found += [
        _case("state dict", WRAPPERS["state dict"], "safetensors", SAFETENSORS, provider, 0)
        for provider in NETWORKS
    ]
    return found + [
        _case(kind, WRAPPERS[kind], place, CONTAINERS[place], provider, -1)
        for provider, kind, place in (
            ("medmnist", "net", "legacy in an archive"), ("ivrl", "net", "zip"),
            ("torchvision", "half", "legacy"), ("robustbench", "ImageNet example", "zip"),
        )
    ]  # fmt: skip


def _case(
    kind: str, wrapper: Wrapper, place: str, container: Container, provider: str, index: int
) -> Case:
    architecture = architecture_of(provider, index)
    named = architecture.get("name") if isinstance(architecture, dict) else architecture
    network = named if isinstance(named, str) else "layers"
    return Case(f"{kind}, {place}, {network}", provider, index, wrapper, container)
