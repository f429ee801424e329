"""What is shown of each threat: the one layout behind terminal, HTML and LaTeX tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from securitynet.errors import unknown_id
from securitynet.records import Evaluation, Measure
from securitynet.reports.wording import (
    FAMILIES,
    Labeller,
    family,
    figure,
    labeller,
    name_of,
    sentence,
    shown,
    split_label,
)

MIA = ("auc", "null", "tpr_at_fpr_1pct", "tpr_at_fpr_0.1pct")
STEAL = ("accuracy", "agreement", "floor_agreement", "excess_agreement", "budget")
MODELS = ("p_value", "infected_label", "attack_success", "trigger_l1")
INPUTS = ("auroc", "tpr", "fpr")
OTHERS = ("balanced_accuracy", "error_agreement", "statistic")
"""Measures that have no column in a narrow table; a page shows them and any unheard of."""
UNGROUPED = ("infected_label", "null", "budget")
"""Columns whose median over models means nothing."""
OTHER = "other"
ABOUT_MODEL: dict[str, tuple[str, ...]] = {
    "mia": ("train_accuracy", "test_accuracy", "gap"),
    "steal": ("target_accuracy",),
    "backdoor": (),
    OTHER: (),
}
"""Measures of the target itself: the same in every row, so shown once."""


@dataclass(frozen=True)
class Section:
    """The records of one threat and the measures shown of them.

    Attributes:
        threat: Prefix of the methods.
        title: Heading.
        names: The main measures in column order, only those that some record has.
        others: All further measures that some record has, those of the target itself apart.
        records: Records with figures.
        troubles: Records without.
    """

    threat: str
    title: str
    names: tuple[str, ...]
    others: tuple[str, ...]
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
    return found + _unheard_of(records)


def _unheard_of(records: Sequence[Evaluation]) -> list[Section]:
    """Arrange records of no known family, as a newer version may have left them."""
    mine = [record for record in records if family(record) not in FAMILIES]
    fine = [record for record in mine if record.status == "ok"]
    names = sorted({name for record in fine for name in record.measures})
    troubles = tuple(record for record in mine if record.status != "ok")
    return [_section(OTHER, "Other methods", names, fine, troubles)] if mine else []


def _section(
    threat: str,
    title: str,
    names: Iterable[str],
    records: Sequence[Evaluation],
    troubles: tuple[Evaluation, ...],
) -> Section:
    main = tuple(name for name in names if any(_has(record, name) for record in records))
    known = {name for record in records for name in record.measures}
    left = known - {*main, *ABOUT_MODEL[threat]}
    others = [name for name in OTHERS if name in left] + sorted(left - set(OTHERS))
    return Section(threat, title, main, tuple(others), tuple(records), troubles)


def about_model(records: Sequence[Evaluation], threat: str) -> dict[str, str]:
    """Return what was measured of the target itself, by name; differing figures side by side."""
    facts = {}
    for name in ABOUT_MODEL[threat]:
        known = [record.measures.get(name) for record in records if record.status == "ok"]
        texts = dict.fromkeys(figure(m) for m in known if m is not None and m.value is not None)
        if texts:
            facts[name_of(name)] = " or ".join(texts)
    return facts


def troubles_by_reason(
    records: Sequence[Evaluation], label: Labeller
) -> dict[tuple[str, str], list[str]]:
    """Group records without figures by (status, reason): a refused model refuses every method."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        if record.status != "ok":
            groups[record.status, sentence(record.error or "no reason given")].append(label(record))
    return dict(groups)


def common_flags(records: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return the flags that all records have, in order; none for a single record."""
    fine = [record for record in records if record.status == "ok"]
    if len(fine) < 2:
        return ()
    joint = set.intersection(*(set(record.flags) for record in fine))
    return tuple(flag for flag in fine[0].flags if flag in joint)


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
            groups[_of_origin(name, record) if by == "origin" else name].append(record)
        found += [_group(section, name, mine) for name, mine in sorted(groups.items())]
    return found


def _of_origin(name: str, record: Evaluation) -> str:
    """Return ``mia.loss (benchmark)``: a method's origins stand together."""
    method, options = split_label(name)
    return f"{method} ({', '.join((shown(record.origin), *options))})"


def _seedless(records: Sequence[Evaluation]) -> Labeller:
    """Name methods by their options alone: seeds are summed up within a model."""
    return labeller([replace(record, seed=0) for record in records])


def _group(section: Section, name: str, records: Sequence[Evaluation]) -> Group:
    unsound = {"null-failed", "one-control"}
    usable = [r for r in records if r.status == "ok" and not unsound.intersection(r.flags)]
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
