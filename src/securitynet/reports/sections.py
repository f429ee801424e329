"""What is shown of each threat: the one layout behind terminal, HTML and LaTeX tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from securitynet.errors import unknown_id
from securitynet.records import Evaluation, Measure
from securitynet.reports.wording import FAMILIES, Labeller, family, labeller, plain

MIA = ("auc", "null", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct")
STEAL = ("accuracy", "agreement", "floor_agreement", "excess_agreement", "budget")
MODELS = ("p_value", "infected_label", "attack_success", "trigger_l1")
INPUTS = ("auroc", "tpr", "fpr")
UNGROUPED = ("infected_label", "null", "budget")
"""Columns whose median over models means nothing."""
ABOUT_MODEL = {
    "mia": ("train_accuracy", "test_accuracy", "gap"),
    "steal": ("target_accuracy",),
    "backdoor": (),
}
"""Measures of the target itself: the same in every row, so shown once."""


@dataclass(frozen=True)
class Section:
    """The records of one threat and the measures shown of them.

    Attributes:
        threat: Prefix of the methods.
        title: Heading.
        names: Measures in column order, only those that some record has.
        records: Records with figures.
        troubles: Records without.
    """

    threat: str
    title: str
    names: tuple[str, ...]
    records: tuple[Evaluation, ...]
    troubles: tuple[Evaluation, ...] = ()


@dataclass(frozen=True)
class Group:
    """One method (of one origin), summed up over models.

    Attributes:
        section: Title of the section it belongs to.
        name: Name of the group.
        n_models: Number of models behind the medians.
        n_left_out: Records without usable figures: not run to the end, or their control failed.
        measures: Median over models, with minimum and maximum as ``low`` and ``high``.
    """

    section: str
    name: str
    n_models: int
    n_left_out: int
    measures: dict[str, Measure]


def sections(records: Sequence[Evaluation]) -> list[Section]:
    """Arrange records by threat; backdoor detectors of models and of inputs stand apart."""
    found = []
    for threat, title in FAMILIES.items():
        mine = [record for record in records if family(record) == threat]
        fine = [record for record in mine if record.status == "ok"]
        troubles = tuple(record for record in mine if record.status != "ok")
        if threat == "backdoor":
            on_inputs = [record for record in fine if "auroc" in record.measures]
            others = [record for record in fine if "auroc" not in record.measures]
            if others or (troubles and not on_inputs):
                found.append(_section(threat, f"{title} (models)", MODELS, others, troubles))
                troubles = ()
            if on_inputs:
                found.append(_section(threat, f"{title} (inputs)", INPUTS, on_inputs, troubles))
        elif mine:
            found.append(_section(threat, title, MIA if threat == "mia" else STEAL, fine, troubles))
    return found


def _section(
    threat: str,
    title: str,
    names: Iterable[str],
    records: Sequence[Evaluation],
    troubles: tuple[Evaluation, ...],
) -> Section:
    shown = tuple(name for name in names if any(_has(record, name) for record in records))
    return Section(threat, title, shown, tuple(records), troubles)


def _has(record: Evaluation, name: str) -> bool:
    return bool(record.nulls) if name == "null" else name in record.measures


def grouped(records: Sequence[Evaluation], by: str) -> list[Group]:
    """Sum up records over models: the median with its range, and the number of models.

    Several records of one model (seeds, data sets) count as one: their median. Figures whose
    control failed are left out, and counted.

    Args:
        records: Records of any status.
        by: ``method``: one group a method; ``origin``: one a method and origin of the model.

    Raises:
        UsageError: If ``by`` is neither.
    """
    if by not in ("method", "origin"):
        raise unknown_id("grouping", by, ("method", "origin"), listing="securitynet report --help")
    label = _seedless(records)
    found = []
    for section in sections(records):
        groups: dict[str, list[Evaluation]] = defaultdict(list)
        for record in (*section.records, *section.troubles):
            name = label(record)
            groups[f"{plain(record.origin)}: {name}" if by == "origin" else name].append(record)
        found += [_group(section, name, mine) for name, mine in sorted(groups.items())]
    return found


def _seedless(records: Sequence[Evaluation]) -> Labeller:
    """Name methods by their options alone: seeds are summed up within a model."""
    return labeller([replace(record, seed=0) for record in records])


def _group(section: Section, name: str, records: Sequence[Evaluation]) -> Group:
    usable = [r for r in records if r.status == "ok" and "null-failed" not in r.flags]
    names = [n for n in section.names if n not in UNGROUPED]
    return Group(
        section.title,
        name,
        len({record.model for record in usable}),
        len(records) - len(usable),
        {measure: _median(usable, measure) for measure in names},
    )


def _median(records: Sequence[Evaluation], name: str) -> Measure:
    values: dict[str, list[float]] = defaultdict(list)
    for record in records:
        measure = record.measures.get(name)
        if measure is not None and measure.value is not None:
            values[record.model].append(measure.value)
    if not values:
        return Measure(None)
    medians = [statistics.median(mine) for mine in values.values()]
    return Measure(statistics.median(medians), min(medians), max(medians), len(medians))
