"""Fast inference as every attack uses it, against a plain fp32 loop over the module as given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ground import Ground, uncached
from pairs import Comparison, Quality
from securitynet.datasets.images import Images
from securitynet.targets.engine import Engine, as_logits
from securitynet.targets.parity import compare
from securitynet.targets.target import as_pixels

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FastInference:
    """Fast inference against plain fp32.

    Attributes:
        n_images: Half of them members.
        plain_batch: Images of one pass of the plain loop.
    """

    n_images: int = 2000
    plain_batch: int = 128

    def __call__(self, ground: Ground) -> Comparison[Logits, Logits]:
        """Prepare both sides."""
        target, audit = ground.subject.target, ground.subject.audit
        images, is_member = audit.data.audit.take(slice(self.n_images)), audit.is_member
        members_first = np.argsort(~is_member[: len(images)], kind="stable")
        n_members = int(is_member[: len(images)].sum())

        def judge(ours: Logits, plain: Logits) -> Quality:
            fast, reference = ours[members_first], plain[members_first]
            labels = images.labels[members_first]
            parity = compare(target.precision, reference, fast, labels, n_members)
            return Quality(
                f"label agreement {parity.label_agreement:.4f}, AUC change of the loss attack "
                f"{parity.auc_change:.5f} (standard error {parity.auc_error:.5f})",
                parity.is_close,
            )

        return Comparison(
            ours=f"the target's logits in {target.precision}, nothing cached",
            other=f"the module as given, fp32, eager, batches of {self.plain_batch}",
            run_ours=lambda: uncached(target).logits(images),
            run_other=lambda: plain_logits(target.engine, images, self.plain_batch),
            judge=judge,
            n_items=len(images),
        )


def plain_logits(engine: Engine, images: Images, batch_size: int) -> Logits:
    """Loop over batches as anybody would; logits, float32 ``[n, K]``."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = as_pixels(images.pixels(start, start + batch_size)).to(engine.device)
            parts.append(as_logits(engine.plain(batch)).cpu().numpy())
    return np.concatenate(parts)


BENCHMARK = FastInference()
QUICK = FastInference(n_images=400)
