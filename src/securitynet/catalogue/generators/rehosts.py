"""Models of timm whose tags say that they are torchvision's: aliases, not models of their own."""

from __future__ import annotations

TAGS = {
    "tv_in1k": "IMAGENET1K_V1", "tv2_in1k": "IMAGENET1K_V2",
    "swag_ft_in1k": "IMAGENET1K_SWAG_E2E_V1", "swag_lc_in1k": "IMAGENET1K_SWAG_LINEAR_V1",
}  # fmt: skip
"""timm's tag -> torchvision's weight entry."""
SAME_NAMES = (
    "densenet121", "densenet161", "densenet169", "densenet201", "inception_v3", "resnet18",
    "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19",
    "vgg19_bn", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
REGNETS = {
    "regnetx_004_tv": "regnet_x_400mf", "regnetx_008": "regnet_x_800mf",
    "regnetx_016": "regnet_x_1_6gf", "regnetx_032": "regnet_x_3_2gf",
    "regnetx_080": "regnet_x_8gf", "regnetx_160": "regnet_x_16gf",
    "regnetx_320": "regnet_x_32gf", "regnety_004": "regnet_y_400mf",
    "regnety_008_tv": "regnet_y_800mf", "regnety_016": "regnet_y_1_6gf",
    "regnety_032": "regnet_y_3_2gf", "regnety_080_tv": "regnet_y_8gf",
    "regnety_160": "regnet_y_16gf", "regnety_320": "regnet_y_32gf",
    "regnety_1280": "regnet_y_128gf",
}  # fmt: skip
BUILDERS = {**{name: name for name in SAME_NAMES}, **REGNETS}
"""timm's architecture -> torchvision's builder."""


def original(name: str) -> str | None:
    """Return the id of the original that a timm ``architecture.tag`` re-hosts, if it does."""
    architecture, _, tag = name.partition(".")
    if tag not in TAGS:
        return None
    if architecture not in BUILDERS:
        raise LookupError(f"timm re-hosts {name}, but of which model is not in the table")
    return f"torchvision/{BUILDERS[architecture]}.{TAGS[tag]}"


def rehosts_of(builder: str, entry: str) -> tuple[str, ...]:
    """Return timm's ids of a torchvision weight entry; timm has no first recipe of the RegNets."""
    tags = [tag for tag, named in TAGS.items() if named == entry]
    if not tags or (builder in REGNETS.values() and tags == ["tv_in1k"]):
        return ()
    return tuple(f"timm/{name}.{tags[0]}" for name, of in BUILDERS.items() if of == builder)
