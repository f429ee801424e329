"""Facts of RobustBench's code that its records and zoo tables leave out, at 78fcc9e."""

from __future__ import annotations

_RELEASE = "https://github.com/RobustBench/robustbench/releases/download"

RELEASES = {
    f"{dataset}/Linf/Debenedetti2022Light_XCiT-{size}12": (
        f"{_RELEASE}/v1.1/debenedetti2022light-xcit-{size.lower()}-{dataset}-linf.pth.tar"
    )
    for dataset in ("cifar10", "cifar100", "imagenet")
    for size in "SML"
} | {
    f"imagenet/corruptions/Tian2022Deeper_DeiT-{size}": (
        f"{_RELEASE}/v1.1.1-test/tian2022deeper-deit-{size.lower()}.pth"
    )
    for size in "SB"
}
"""Models whose weights are release assets instead of Drive files."""

FROM_TORCHVISION = {
    "imagenet/Linf/Standard_R50": "ResNet50_Weights.IMAGENET1K_V1",
    "imagenet/corruptions/Standard_R50": "ResNet50_Weights.IMAGENET1K_V1",
    "imagenet/corruptions/AlexNet": "AlexNet_Weights.IMAGENET1K_V1",
}
"""Plain baselines: weights of torchvision."""

_BICUBIC, _PLAIN = (224, 256, "bicubic"), (224, None, "bilinear")
PREPROCESSING: dict[str, tuple[int, int | None, str]] = {
    "Wong2020Fast": (288, 288, "bilinear"),
    "Mo2022When_Swin-B": _PLAIN,
    "Mo2022When_ViT-B": _PLAIN,
    "Bai2024MixedNUTS": _BICUBIC,
    "Debenedetti2022Light_XCiT-S12": (224, 224, "bicubic"),
    "Debenedetti2022Light_XCiT-M12": (224, 224, "bicubic"),
    "Debenedetti2022Light_XCiT-L12": (224, 224, "bicubic"),
} | dict.fromkeys(
    (
        "Singh2023Revisiting_ViT-S-ConvStem", "Singh2023Revisiting_ViT-B-ConvStem",
        "Singh2023Revisiting_ConvNeXt-T-ConvStem", "Singh2023Revisiting_ConvNeXt-S-ConvStem",
        "Singh2023Revisiting_ConvNeXt-B-ConvStem", "Singh2023Revisiting_ConvNeXt-L-ConvStem",
        "Liu2023Comprehensive_ConvNeXt-B", "Liu2023Comprehensive_ConvNeXt-L",
        "Liu2023Comprehensive_Swin-B", "Liu2023Comprehensive_Swin-L",
        "Amini2024MeanSparse_ConvNeXt-L", "Amini2024MeanSparse_Swin-L",
        "RodriguezMunoz2024Characterizing_Swin-B", "RodriguezMunoz2024Characterizing_Swin-L",
        "Xu2024MIMIR_Swin-B", "Xu2024MIMIR_Swin-L",
    ),
    _BICUBIC,
)  # fmt: skip
"""ImageNet models that are not resized to 256 bilinearly and cropped to 224: side, resize, how.

Wong2020Fast crops 288 pixels out of the picture as it is; resizing to 288 comes closest.
"""

LICENCES = {
    "cifar10 Linf Hendrycks2019Using": "Apache-2.0",
    "cifar10 Linf Pang2020Boosting": "Apache-2.0",
    "cifar10 Linf/L2 Ding2020MMA": "CC-BY-NC-SA-4.0",
    "cifar10 L2 Rony2019Decoupling": "BSD-3-Clause",
    "cifar10/cifar100 Linf/L2/corruptions Gowal2020Uncovering*": "Apache-2.0",
    "cifar10/cifar100 Linf/L2/corruptions Rebuffi2021Fixing*": "Apache-2.0",
    "cifar10/cifar100 Linf/L2 Gowal2021Improving*": "Apache-2.0",
}
"""Weights whose licence is not MIT, as the LICENSE file lists them: data, threats, name."""
