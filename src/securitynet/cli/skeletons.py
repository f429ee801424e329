"""What ``securitynet add method`` writes: a method that runs as it is, and its test."""

from __future__ import annotations

import keyword
import re

from securitynet.errors import UsageError
from securitynet.registry import FAMILIES, methods

HEAD = '''"""{title}"""

from dataclasses import dataclass

{imports}

@sn.method(
    "{name}",
    access=sn.Access.{access},
    paper="authors, venue, year, section: where it is defined",
    cost="{cost}",
    soundness="when can its figure be believed?",{more}
)
@dataclass(frozen=True, kw_only=True)
class {kind}:
    """{title}

    Say the formula here: `securitynet show` prints it.
    """

{body}'''
BODIES = {
    "mia": '''    power: float = sn.option(1.0, "Exponent of the posterior.", low=0.1, high=10)

    def __call__(self, target, data, context):
        """Score ``data.audit``; higher = member."""
        scores, labels = target.scores(data.audit), data.audit.labels
        return sn.MembershipEvidence(scores[np.arange(len(scores)), labels] ** self.power)
''',
    "steal": '''    budget: int = sn.option(300, "Images to ask.", low=20)

    def __call__(self, target, data, context):
        """Train a copy on the target's answers, and its floor on the true labels."""
        asked = data.queries.take(slice(self.budget))
        answers = target.labels(asked)
        known = flat(data.evaluation)
        copy, floor = (
            LogisticRegression(max_iter=1000).fit(flat(asked), labels).predict(known)
            for labels in (answers, asked.labels)
        )
        return StealingEvidence(
            target.labels(data.evaluation),
            (Surrogate(len(asked), context.seed, copy, floor),),
        )


def flat(images):
    """Return pixels in [0, 1], float64 ``[n, H * W * C]``."""
    return images.pixels().reshape(len(images), -1) / 255
''',
    "backdoor": '''    n_scored: int = sn.option(100, "Inputs of each kind.", low=20)

    def __call__(self, target, data, context):
        """Score clean and triggered inputs by their largest posterior; higher = triggered."""
        trigger = context.trigger if isinstance(context.trigger, Trigger) else Trigger()
        images = data.clean.take(context.rng.permutation(len(data.clean)))
        held, clean, rest = (
            images.take(slice(i * self.n_scored, (i + 1) * self.n_scored)) for i in range(3)
        )
        return InputEvidence(
            clean_scores=target.scores(clean).max(1),
            triggered_scores=target.scores(trigger.apply(rest.pixels())).max(1),
            threshold=float(np.quantile(target.scores(held).max(1), 0.99)),
        )
''',
}
IMPORTS = {
    "mia": "import numpy as np\nimport securitynet as sn\n",
    "steal": "import securitynet as sn\n"
    "from securitynet.evidence import StealingEvidence, Surrogate\n"
    "from sklearn.linear_model import LogisticRegression\n",
    "backdoor": "import numpy as np\nimport securitynet as sn\n"
    "from securitynet.evidence import InputEvidence\n"
    "from securitynet.training.backdoors import Trigger\n",
}
ACCESS = {"mia": "SCORES", "steal": "LABELS", "backdoor": "SCORES"}
COSTS = {
    "mia": "one query a sample",
    "steal": "one query an image of the budget, one an evaluation image",
    "backdoor": "three queries a scored input",
}
MEASURES = {"mia": "auc", "steal": "agreement", "backdoor": "auroc"}
TEST = '''"""{title} It runs, and finds what is known to be there."""

from pathlib import Path

import securitynet as sn
from securitynet.datasets.library import load_dataset
from securitynet.training.selftrained import TrainingPlan, train_models
from securitynet.training.trainer import Recipe

FILE = Path(__file__).with_name("{stem}.py")
RECIPE = Recipe(epochs=60, is_augmented=False, label_smoothing=0.0, weight_decay=0.0)


def test_it_finds_what_is_known(tmp_path):
    """On a small network that is left to overfit; put what is known of your method here."""
    plan = TrainingPlan("known", "securitynet/mlp", RECIPE)
    cards = train_models(plan, load_dataset("digits"), tmp_path, lambda share, what: None)
    (record,) = sn.evaluate([str(FILE)], [str(cards[0])], store=tmp_path / "results")
    assert record.status == "ok", record.error
    found = record.measures["{measure}"]
    assert found.low > {bound}, found
'''
BOUNDS = {"mia": "0.45", "steal": "0.5", "backdoor": "0.2"}


def skeleton(name: str) -> dict[str, str]:
    """Return the files of a new method, name -> text.

    Args:
        name: ``family.name``, e.g. ``mia.margin``.

    Raises:
        UsageError: If the name is none or taken.
    """
    family, _, own = name.partition(".")
    if family not in FAMILIES.values() or not re.fullmatch(r"[a-z][a-z0-9_]*", own):
        raise UsageError(
            f"{name!r} is no name of a method",
            hint=f"e.g. mia.margin; families: {', '.join(FAMILIES.values())}",
        )
    if keyword.iskeyword(own) or name in methods():
        raise UsageError(f"{name!r} is taken", hint="choose another name")
    words = own.replace("_", " ")
    parts = {
        "title": f"{words[0].upper()}{words[1:]}: say in a line what it looks at.",
        "name": name, "stem": own, "kind": "".join(part.title() for part in own.split("_")),
        "imports": IMPORTS[family], "access": ACCESS[family], "cost": COSTS[family],
        "more": "" if family == "mia" else "\n    is_seeded=True,", "body": BODIES[family],
        "measure": MEASURES[family], "bound": BOUNDS[family],
    }  # fmt: skip
    return {f"{own}.py": HEAD.format(**parts), f"test_{own}.py": TEST.format(**parts)}
