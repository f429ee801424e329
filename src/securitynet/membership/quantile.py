"""Quantile regression: is the target surer of a sample than of non-members as difficult?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from securitynet.evidence import MembershipEvidence
from securitynet.membership import _scores
from securitynet.membership._knowledge import known_of, references_of
from securitynet.membership._nulls import with_nulls
from securitynet.registry import Access, method, option

if TYPE_CHECKING:
    from securitynet.datasets.images import AuditData
    from securitynet.targets.context import Context
    from securitynet.targets.references import References
    from securitynet.targets.target import Target

Floats = _scores.Floats
_FLOOR = 1e-3  # of the median residual: a sample that is hit exactly has no infinite log


@method(
    "mia.quantile",
    access=Access.SCORES,
    paper="Bertran et al., NeurIPS 2023, arXiv 2307.03694, section 3 (Gaussian quantiles); the "
    "features are the references' answers instead of a network on the image",
    cost="one query a sample; one pass of every reference, shared by all models of the data set",
    soundness="Every reference must be OUT of every sample it speaks for; others are refused. The "
    "regression learns from known non-members only, which are not scored. The figure counts only "
    "if both controls hold 0.5.",
    needs=("membership", "references"),
)
@dataclass(frozen=True, kw_only=True)
class Quantile:
    """Quantile regression: where among equally difficult non-members does the sample stand?

    Score: (phi - m(x)) / s(x), with phi that of ``mia.logit``. m and s are the mean and spread of
    a non-member's phi given the sample's features, so that the threshold m + q s is a quantile
    for every x. Features are mean and spread of phi over the sample's OUT references and the
    entropy of their mean answer; m is a ridge regression on cubic splines of them, fitted to the
    known non-members; log s is the same for their log absolute residuals.
    """

    n_knots: int = option(6, "Knots of the splines, at quantiles.", low=2, high=50)
    ridge: float = option(1.0, "Weight of the coefficients' squares.", low=0)

    def __call__(self, target: Target, data: AuditData, context: Context) -> MembershipEvidence:
        """Score ``data.audit``; higher = member.

        Raises:
            RefusedError: If there are no sound references or too few known non-members.
        """
        references, labels = references_of(context, "mia.quantile"), data.audit.labels
        held = known_of(context, "mia.quantile") == 0
        features = difficulty_features(references, labels)
        rows = self._splines().fit(features[held]).transform(features)

        def score(log_p: Floats) -> Floats:
            phi = _scores.scaled_logit(log_p, labels)
            return self._standardised(rows, phi, held)

        return with_nulls(score, target.log_scores(data.audit), references, context.rng)

    def _standardised(self, rows: Floats, phi: Floats, held: Any) -> Floats:
        residual = phi - self._fitted(rows, phi[held], held)
        size = np.abs(residual[held])
        log_size = np.log(size + _FLOOR * np.median(size) + np.finfo(np.float64).tiny)
        log_spread = self._fitted(rows, log_size, held)
        return np.asarray(residual / np.exp(np.clip(log_spread, log_size.min(), log_size.max())))

    def _fitted(self, rows: Floats, values: Floats, held: Any) -> Floats:
        from sklearn.linear_model import Ridge

        return np.asarray(Ridge(alpha=self.ridge).fit(rows[held], values).predict(rows))

    def _splines(self) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import SplineTransformer, StandardScaler

        splines = SplineTransformer(
            n_knots=self.n_knots, knots="quantile", extrapolation="linear", include_bias=False
        )
        return make_pipeline(StandardScaler(), splines)


def difficulty_features(references: References, labels: _scores.Labels) -> Floats:
    """Return what the OUT references say of each sample, float64 ``[n, 3]``; their order is lost.

    Mean and standard deviation of phi over references, and the entropy of their mean answer.
    """
    phi = references.gather(_scores.scaled_logit, labels)
    entropy = -_scores.neg_entropy(references.mean_log_p())
    return np.column_stack([phi.mean(0), phi.std(0), entropy])
