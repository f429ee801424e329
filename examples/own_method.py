"""A membership attack of one's own, run on a small model that is trained on the spot.

Run it with ``python examples/own_method.py [FOLDER]``; it needs no network.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import securitynet as sn
from securitynet.datasets.library import load_dataset
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import Recipe


@sn.method(
    "mia.margin",
    access=sn.Access.SCORES,
    paper="an example",
    cost="one query a sample",
    soundness="needs no reference and no training",
)
@dataclass(frozen=True, kw_only=True)
class Margin:
    """The margin between the true class and the best other class."""

    power: float = sn.option(1.0, "Exponent of the margin.", low=0.1, high=10)

    def __call__(self, target, data, context):
        """Score ``data.audit``; higher = member."""
        scores = target.scores(data.audit)
        rows, labels = np.arange(len(scores)), data.audit.labels
        own = scores[rows, labels]
        others = scores.copy()
        others[rows, labels] = -np.inf
        margin = own - others.max(1)
        return sn.MembershipEvidence(np.sign(margin) * np.abs(margin) ** self.power)


def main(folder: Path) -> None:
    """Train a small network on scanned digits and attack it."""
    recipe = Recipe(epochs=60, is_augmented=False, label_smoothing=0.0, weight_decay=0.0)
    plan = TrainingPlan("digits-mlp", "securitynet/mlp", recipe)
    cards = train_models(plan, load_dataset("digits"), folder, lambda share, what: None)
    records = sn.evaluate(["mia.margin", "mia.loss"], [str(cards[0])], store=folder / "results")
    for record in records:
        auc = record.measures["auc"]
        print(f"{record.method:<12} AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
