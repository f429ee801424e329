"""RobustBench's model expressions, read as text: which network, with which constants inside.

An expression is never executed: its syntax tree is matched against the constructors known here.
What none of them fits is named ``robustbench/...`` after its label; nobody builds it here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from securitynet.catalogue.generators import counting, robustbench_mixed

Numbers = tuple[float, ...]


class Net(NamedTuple):
    """A network: architecture of the card, constants of its input, its size if countable."""

    architecture: str | dict[str, Any]
    mean: Numbers | None = None
    std: Numbers | None = None
    size: counting.Count | None = None


IMAGENET: tuple[Numbers, Numbers] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10: tuple[Numbers, Numbers] = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
CIFAR10_OLD: tuple[Numbers, Numbers] = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR10_SHORT: tuple[Numbers, Numbers] = ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
CIFAR10_LONG: tuple[Numbers, Numbers] = (
    (0.4913997551666284, 0.48215855929893703, 0.4465309133731618),
    (0.24703225141799082, 0.24348516474564, 0.26158783926049628),
)
CIFAR100: tuple[Numbers, Numbers] = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
CIFAR100_OLD: tuple[Numbers, Numbers] = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
CIFAR100_LONG: tuple[Numbers, Numbers] = (
    (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
)
HALF: tuple[Numbers, Numbers] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def wide(
    n: int,
    depth: int,
    width: int,
    *,
    sub: bool = False,
    own: tuple[Any, Any] = (None, None),
    **more: Any,
) -> Net:
    """Return a wide ResNet as the TRADES code defines it."""
    options = {"depth": depth, "widen_factor": width, "sub_block1": sub, **more}
    count = counting.wide_resnet(
        depth, width, n, has_sub_block=sub, has_bias="cosine_head" not in more
    )
    return Net({"name": "securitynet/wide_resnet", "options": options}, *own, count)


def preact(
    n: int, *, norm: bool = False, shortcut: str = "input", own: tuple[Any, Any] = (None, None)
) -> Net:
    """Return a pre-activation ResNet-18."""
    options = {"final_norm": norm, "shortcut": shortcut}
    count = counting.preact_resnet18(n, has_final_norm=norm)
    return Net({"name": "securitynet/preact_resnet18", "options": options}, *own, count)


def resnet(n: int, depth: int, *, own: tuple[Any, Any] = (None, None), **more: Any) -> Net:
    """Return a ResNet with a 3 x 3 stem."""
    name = f"securitynet/cifar_stem_resnet{depth}"
    architecture = {"name": name, "options": more} if more else name
    return Net(architecture, *own, counting.cifar_stem_resnet(depth, n))


def staged(n: int, channels: list[int], depths: list[int], activation: str, **more: Any) -> Net:
    """Return a wide ResNet with channels and depths of each stage."""
    options = {"channels": channels, "depths": depths, "activation": activation, **more}
    count = counting.staged_wide_resnet(channels, depths, n)
    return Net({"name": "securitynet/staged_wide_resnet", "options": options}, None, None, count)


def _ding(n: int) -> Net:
    return wide(n, 28, 4, standardise="image")


def _rony(n: int) -> Net:
    return wide(n, 28, 10, own=CIFAR10_SHORT, unused=["model_preact_hl1"])


def _card_net(n: int, own: tuple[Numbers, Numbers]) -> Net:
    architecture = {"name": "securitynet/lrr_resnet18", "options": {"width": 128}}
    return Net(architecture, *own, counting.cifar_stem_resnet(18, n, width=128))


def _copies(label: str, n_copies: int, one: counting.Count, own: tuple[Numbers, Numbers]) -> Net:
    """Return so many networks of one kind, averaged, or one that nobody builds here."""
    size = counting.Count(n_copies * one.params, n_copies * (one.macs or 0))
    return Net(f"robustbench/{label}", *own, size)


def _deck(n: int, own: tuple[Numbers, Numbers]) -> Net:
    return _copies("lrr_resnet18_deck", 6, counting.cifar_stem_resnet(18, n, width=128), own)


def _binary(n: int, own: tuple[Numbers, Numbers]) -> Net:
    """Return the network whose file also holds the scores that chose among its weights."""
    options = {"unused": ["*.scores"]}
    architecture = {"name": "securitynet/unscaled_preact_resnet18", "options": options}
    return Net(architecture, *own, counting.unscaled_preact_resnet18(n))


def _binary_deck(n: int, own: tuple[Numbers, Numbers]) -> Net:
    return _copies("wideresnet_18_2_deck", 6, counting.unscaled_preact_resnet18(n), own)


def _own(name: str, own: tuple[Any, Any] = (None, None), **options: Any) -> Net:
    """Return a network of ours; its size is counted where it is built."""
    whole = f"securitynet/{name}"
    return Net({"name": whole, "options": options} if options else whole, *own)


def _resnext(n: int) -> Net:
    return Net("securitynet/cifar_resnext29", *HALF, counting.cifar_resnext29(n))


def _pssilu(n: int) -> Net:
    architecture = {
        "name": "securitynet/pssilu_wide_resnet", "options": {"depth": 28, "widen_factor": 10},
    }  # fmt: skip
    plain = counting.wide_resnet(28, 10, n)
    return Net(architecture, None, None, plain._replace(params=plain.params + 2))


CLASSES: dict[str, Callable[[int], Net]] = {
    "10/Hendrycks2019UsingNet": lambda n: wide(n, 28, 10, own=HALF),
    "100/Hendrycks2019UsingNet": lambda n: wide(n, 28, 10, own=HALF),
    "10/Rice2020OverfittingNet": lambda n: wide(n, 34, 20, own=CIFAR10),
    "100/Rice2020OverfittingNet": lambda n: preact(
        n, norm=True, shortcut="activated", own=CIFAR100_LONG
    ),
    "10/Rice2020OverfittingNetL2": lambda n: preact(
        n, norm=True, shortcut="activated", own=CIFAR10
    ),
    "10/Engstrom2019RobustnessNet": lambda n: resnet(n, 50, own=CIFAR10_OLD),
    "10/Augustin2020AdversarialNet": lambda n: resnet(n, 50, own=CIFAR10_LONG),
    "10/Augustin2020AdversarialWideNet": lambda n: wide(n, 34, 10, own=CIFAR10_LONG),
    "10/BoostingWideResNet": lambda n: wide(n, 34, 20, sub=True, own=CIFAR10, cosine_head=True),
    "10/Wong2020FastNet": lambda n: preact(n, own=CIFAR10),
    "10/Kireev2021EffectivenessNet": lambda n: preact(
        n, norm=True, shortcut="activated", own=CIFAR10
    ),
    "10/Ding2020MMANet": _ding,
    "10/Rony2019DecouplingNet": _rony,
    "10/Chen2020EfficientNet": lambda n: wide(n, 34, 10, sub=True, own=CIFAR10),
    "100/Chen2020EfficientNet": lambda n: wide(n, 34, 10, sub=True, own=CIFAR100_OLD),
    "100/Wu2020AdversarialNet": lambda n: wide(n, 34, 10, own=CIFAR100_LONG),
    "10/Diffenderfer2021CARD": lambda n: _card_net(n, CIFAR10_SHORT),
    "100/Diffenderfer2021CARD": lambda n: _card_net(n, CIFAR100),
    "10/Diffenderfer2021CARD_Deck": lambda n: _deck(n, CIFAR10_SHORT),
    "100/Diffenderfer2021CARD_Deck": lambda n: _deck(n, CIFAR100),
    "10/Diffenderfer2021CARD_Binary": lambda n: _binary(n, CIFAR10_SHORT),
    "100/Diffenderfer2021CARD_Binary": lambda n: _binary(n, CIFAR100),
    "10/Diffenderfer2021CARD_Deck_Binary": lambda n: _binary_deck(n, CIFAR10_SHORT),
    "100/Diffenderfer2021CARD_Deck_Binary": lambda n: _binary_deck(n, CIFAR100),
    "10/Chen2020AdversarialNet": lambda n: _copies(
        "resnet_50", 3, counting.preact_resnet50(n), IMAGENET
    ),
    "10/Hendrycks2020AugMixWRNNet": lambda n: wide(n, 40, 2, own=HALF),
    "100/Hendrycks2020AugMixWRNNet": lambda n: wide(n, 40, 2, own=HALF),
    "10/Hendrycks2020AugMixResNeXtNet": _resnext,
    "100/Hendrycks2020AugMixResNeXtNet": _resnext,
    "10/Modas2021PRIMEResNet18": lambda n: resnet(n, 18, constants="file"),
    "100/Modas2021PRIMEResNet18": lambda n: resnet(n, 18, constants="file"),
    "10/ResNet18": lambda n: resnet(n, 18),
    "10/ResNest152": lambda n: _own("cifar_resnest152"),
    "1000/build_swin_base": lambda n: _own("simmim_swin", size="b"),
    "1000/build_swin_large": lambda n: _own("simmim_swin", size="l"),
}
"""Classes of their own: number of classes / name -> network."""


_XCITS: dict[str, tuple[str, dict[str, Any]]] = {
    "s": ("xcit_small_12_p16_224", {}),
    "m": ("xcit_medium_24_p16_224", {"depth": 12, "eta": 1.0}),
    "l": ("xcit_large_24_p16_224", {"depth": 12, "eta": 1.0}),
}
REGISTERED: dict[str, tuple[str, str, dict[str, Any], tuple[Any, Any]]] = {
    **{
        f"debenedetti2020light_xcit_{size}_imagenet_linf": ("timm", *named, (None, None))
        for size, named in _XCITS.items()
    },
    "tian2022deeper_deit_s_imagenet_corruptions": (
        "timm", "deit_small_patch16_224", {}, IMAGENET,
    ),
    "tian2022deeper_deit_b_imagenet_corruptions": (
        "timm", "deit_base_patch16_224", {}, IMAGENET,
    ),
    "alexnet": ("torchvision", "alexnet", {}, IMAGENET),
}  # fmt: skip
"""Names that RobustBench registers with timm -> library, network, options, constants inside."""
OVERLAPPING: dict[str, Net] = {
    f"debenedetti2020light_xcit_{size}_{dataset}_linf": _own("overlapping_xcit", own, size=size)
    for size in "sml"
    for dataset, own in (("cifar10", CIFAR10), ("cifar100", CIFAR100_OLD))
}
"""Networks whose patches overlap as no option of timm lets them."""


def read_network(expression: str, n_classes: int, label: str) -> Net:
    """Return the network that an expression of the zoo builds.

    Args:
        expression: E.g. ``lambda: WideResNet(depth=28, widen_factor=10)``.
        n_classes: Outputs of the model.
        label: What the record calls the architecture, for what cannot be built.
    """
    tree = ast.parse(expression, mode="eval").body
    node = tree.body if isinstance(tree, ast.Lambda) else tree
    found = _of_node(node, n_classes)
    named = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return found or Net(f"robustbench/{named}", size=robustbench_mixed.size(expression))


def _of_node(node: ast.expr, n: int) -> Net | None:
    if isinstance(node, ast.Name):
        build = CLASSES.get(f"{n}/{node.id}")
        return build(n) if build else None
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    if name in CONSTRUCTORS:
        return CONSTRUCTORS[name](node, n)
    return _of_node(node.func, n) if isinstance(node.func, ast.Name) else None


def _arguments(node: ast.Call, names: tuple[str, ...]) -> dict[str, Any]:
    """Return literal arguments by name; activations by the end of theirs."""
    given = dict(zip(names, node.args, strict=False))
    given |= {word.arg: word.value for word in node.keywords if word.arg}
    return {name: _value(value) for name, value in given.items()}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        text = ast.unparse(node)
        return eval_product(text) if re.fullmatch(r"[0-9 *]+", text) else text


def eval_product(text: str) -> int:
    """Return a product of whole numbers, e.g. of ``64 * 2``."""
    product = 1
    for factor in text.split("*"):
        product *= int(factor)
    return product


def _wide(node: ast.Call, n: int) -> Net:
    given = _arguments(node, ("depth", "num_classes", "widen_factor", "sub_block1"))
    width, sub = given.get("widen_factor", 10), given.get("sub_block1", False)
    return wide(n, given.get("depth", 28), width, sub=sub)


def _preact(node: ast.Call, n: int) -> Net:
    given = _arguments(node, ("block", "num_blocks"))
    activated = given["block"] == "PreActBlockV2" or given.get("out_shortcut", False)
    shortcut = "activated" if activated else "input"
    return preact(n, norm=given.get("bn_before_fc", False), shortcut=shortcut)


def _basic(node: ast.Call, n: int) -> Net | None:
    given = _arguments(node, ("block", "num_blocks"))
    is_18 = given.get("block") == "BasicBlock" and given.get("num_blocks") == [2, 2, 2, 2]
    return resnet(n, 18) if is_18 else None


def _deepmind_wide(node: ast.Call, n: int) -> Net:
    given = _arguments(node, ())
    depth, width = given["depth"], given["width"]
    options = {"depth": depth, "width": width, "activation": "silu"}
    architecture = {"name": "securitynet/dm_wide_resnet", "options": options}
    return Net(architecture, *_deepmind_own(given), counting.wide_resnet(depth, width, n))


def _deepmind_preact(node: ast.Call, n: int) -> Net:
    options = {"activation": "silu"}
    architecture = {"name": "securitynet/dm_preact_resnet18", "options": options}
    count = counting.preact_resnet18(n, has_final_norm=True, shortcut=3)
    return Net(architecture, *_deepmind_own(_arguments(node, ())), count)


def _deepmind_own(given: dict[str, Any]) -> tuple[Numbers, Numbers]:
    return {"CIFAR10_MEAN": CIFAR10, "CIFAR100_MEAN": CIFAR100}[given["mean"]]


def _robust_wide(node: ast.Call, n: int) -> Net:
    given = _arguments(node, ())
    return staged(n, given["channel_configs"], given["depth_configs"], "relu")


def _robust_resnet(node: ast.Call, n: int) -> Net | None:
    if _arguments(node, ("name",)) != {"name": "WRN-A4"}:
        return None
    net = staged(n, [16, 160, 896, 384], [27, 28, 13], "silu", form="preact")
    return net._replace(mean=CIFAR10[0], std=CIFAR10[1])


RA_NETWORKS = {
    "ra_wrn70_16": _own("ra_wide_resnet", CIFAR10),
    "ra_wrn101_2": _own("ra_resnet101", IMAGENET),
}
SPARSE = {
    ("wrn_70_16", "cifar-10-L2"): _own("dm_wide_resnet", CIFAR10, depth=70, width=16, sparse=True),
    ("wrn_70_16", "cifar-100-Linf"): _own(
        "dm_wide_resnet", CIFAR100, depth=70, width=16, sparse=True
    ),
    ("wrn_94_16", "cifar-10-Linf"): _own(
        "dm_wide_resnet", CIFAR10, depth=94, width=16, sparse=True
    ),
    ("ra_wrn_70_16", "cifar-10-Linf"): _own("ra_wide_resnet", CIFAR10, sparse=True),
    ("swin-l", "imagenet-Linf"): _own("meansparse_swin", IMAGENET),
    ("convnext_large", "imagenet-Linf"): _own("meansparse_convnext", IMAGENET),
}
"""Network and data set -> network with thresholds; one is built by its caller."""
STEMS = {
    "vit_s_cvst": _own("convstem_vit", IMAGENET, size="s"),
    "vit_b_cvst": _own("convstem_vit", size="b"),
    **{f"convnext_{size}_cvst": _own("convstem_convnext", size=size) for size in "tsbl"},
}


def _robust_arch(node: ast.Call, n: int) -> Net | None:
    return RA_NETWORKS.get(_arguments(node, ("name",)).get("name", ""))


def _sparse(node: ast.Call, n: int) -> Net | None:
    given = _arguments(node, ("model", "dataset"))
    made = re.search(r"timm\.create_model\('(\w+)'", str(given["model"]))
    return SPARSE.get((made[1] if made else given["model"], given["dataset"]))


def _stem(node: ast.Call, n: int) -> Net | None:
    return STEMS.get(_arguments(node, ("name",)).get("name", ""))


def _normalised(node: ast.Call, n: int) -> Net | None:
    inner = node.args[0]
    found = _of_node(inner, n)
    return found and found._replace(mean=IMAGENET[0], std=IMAGENET[1])


def _timm(node: ast.Call, n: int) -> Net | None:
    given = _arguments(node, ("name",))
    if not given.get("pretrained"):
        return Net(f"timm/{given['name']}", size=counting.named("timm", given["name"], n))
    if given["name"] in OVERLAPPING:
        return OVERLAPPING[given["name"]]
    if given["name"] not in REGISTERED:
        return None
    library, name, options, own = REGISTERED[given["name"]]
    count = counting.named(library, name, n, **options)
    plain = f"{library}/{name}"
    return Net({"name": plain, "options": options} if options else plain, *own, count)


def _torchvision(node: ast.Call, n: int) -> Net:
    name = ast.unparse(node.func).removeprefix("pt_models.")
    options = {key: value for key, value in _arguments(node, ()).items() if key != "pretrained"}
    count = counting.named("torchvision", name, n, **options)
    architecture = f"torchvision/{name}"
    return Net({"name": architecture, "options": options} if options else architecture, size=count)


CONSTRUCTORS: dict[str, Callable[[ast.Call, int], Net | None]] = {
    "WideResNet": _wide,
    "PreActResNet": _preact,
    "ResNet": _basic,
    "DMWideResNet": _deepmind_wide,
    "DMPreActResNet": _deepmind_preact,
    "RobustWideResNet": _robust_wide,
    "robust_resnet.get_model": _robust_resnet,
    "pssilu_wrn_28_10": lambda node, n: _pssilu(n),
    "get_robustarch_model": _robust_arch,
    "get_sparse_model": _sparse,
    "get_convstem_models": _stem,
    "normalize_model": _normalised,
    "timm.create_model": _timm,
    "pt_models.resnet18": _torchvision,
    "pt_models.resnet50": _torchvision,
    "pt_models.wide_resnet50_2": _torchvision,
}
"""Functions that expressions call -> how to read the call."""
