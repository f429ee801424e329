"""Audit a checkpoint of one's own: a card beside the file, a folder of images, three lines.

Run it with ``python examples/own_checkpoint.py [FOLDER]``; it needs no network. The checkpoint and
the images are made up here, so that the example stands alone: bring yours instead.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

import securitynet as sn
from securitynet.datasets.library import load_dataset


def main(folder: Path) -> None:
    """Write images, a checkpoint and its card, then attack the model."""
    images, net = write_images(folder / "images"), train_net()
    torch.save(net.state_dict(), folder / "net.pt")
    card = {
        "name": "my-net",
        "dataset": "my-images",
        "num_classes": 10,
        "architecture": ["flatten", {"linear": [64, 64]}, "relu", {"linear": [64, 10]}],
        "input": {"channels": 1, "height": 8, "width": 8},
        "weights": {"path": "net.pt"},
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")

    print(sn.scan(folder / "net.pt").verdict)
    records = sn.evaluate("membership", str(folder), data=images, store=folder / "results")
    print(sn.results(store=folder / "results")[["method", "auc", "auc_low", "auc_high"]])
    if any(record.status != "ok" for record in records):
        sys.exit("; ".join(record.error or "" for record in records))


def write_images(folder: Path) -> Path:
    """Write digits as ``train/CLASS/*.png`` and ``test/CLASS/*.png``."""
    digits = load_dataset("digits")
    for split, view in (("train", digits.train), ("test", digits.test)):
        for i, (pixels, label) in enumerate(zip(view.pixels(), view.labels, strict=True)):
            path = folder / split / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0]).save(path)
    return folder


def train_net() -> torch.nn.Module:
    """Train a network as anybody would, without this package."""
    digits = load_dataset("digits").train
    pixels = torch.from_numpy(digits.pixels()).flatten(1) / 255
    labels = torch.from_numpy(digits.labels)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(pixels), labels).backward()
        optimiser.step()
    return net


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
