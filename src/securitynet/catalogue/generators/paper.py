"""The published table as claims on cards: resolved, doubtful rows flagged with their reason.

The normalised rows ship as ``data/paper.csv``; they are merged into the cards of the providers, so
that one model is one card. A figure of the table is a claim with the source ``paper``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from securitynet.catalogue.generators.leads import leads_text
from securitynet.catalogue.generators.paper_table import (
    COLUMNS,
    FIGURES,
    OTHER_WORK,
    PaperRow,
    csv_text,
    read_models,
    shipped_rows,
)
from securitynet.catalogue.schema import Claim, ModelCard, Publication
from securitynet.errors import ResourceError

TABLE, LEADS = "paper.csv", "leads.csv"
MARKDOWN = "published_database.md"
FLAGS = {
    "implausible-claim": "the figures cannot be the model's quality: the evaluation went wrong",
    "constant-prediction": "the table's figures are those of a model that always says one class",
    "below-chance": "the claimed test accuracy is below that of guessing",
    "claim-below-published": "far below what the model's authors report on this data set",
    "failed-steal": "the stolen copy learned nothing",
    "mia-auc-below-half": "a membership AUC below 0.5",
    "mentropy-below-correct": "modified entropy told members worse than correctness did",
    "surrogate-beats-target": "the stolen copy is more accurate than the model, by over 2 points",
    "agreement-below-accuracy": "the copy agrees with the model less than it is right, by 5 points",
    "identical-figures": "another model has the same train and test accuracy on this data set",
    "claims-disagree": "the paper's test accuracy and the provider's differ by over a point",
    "run-presumed": "the table lost the run's number; it is presumed from the order of rows",
    "paper-cites-other-work": "the table cites a work that did not introduce the model",
}
"""Flags that the merge sets, and what they mean."""

SAMPLE = 5_000
N_TEST = {
    "cifar10": 10_000, "cifar100": 10_000, "svhn": 26_032, "cub200": 5_794, "imagenet1k": 50_000,
    "adrenalmnist3d": 298, "fracturemnist3d": 240, "nodulemnist3d": 310, "organmnist3d-v2": 610,
    "synapsemnist3d": 352, "vesselmnist3d": 382, "bloodmnist": 3_421, "breastmnist": 156,
    "dermamnist": 2_005, "octmnist": 1_000, "organamnist-v2": 17_778, "organcmnist-v2": 8_268,
    "organsmnist-v2": 8_829, "pathmnist": 7_180, "pneumoniamnist": 624, "retinamnist": 400,
    "tissuemnist": 47_280,
}  # fmt: skip
"""Test images; every test and stealing figure of the table is a multiple of one over these."""
MAX_DISAGREEMENT = 0.01


def n_samples(row: PaperRow, metric: str) -> int | None:
    """Return how many samples stand behind a figure, ``None`` if the table does not tell.

    Figures that are all multiples of 0.0002 were taken on 5,000 samples: train accuracies on
    ImageNet and SVHN, and train and test accuracies of the security table. Test accuracies and
    stealing figures else are multiples of one over the whole test split. The sample behind an AUC
    is not known, nor that behind other train accuracies.
    """
    if "auc" in metric:
        return None
    if metric == "train_accuracy":
        is_sample = row["table"] == "security" or row["dataset"] in ("imagenet1k", "svhn")
        return SAMPLE if is_sample else None
    if metric == "test_accuracy" and row["table"] == "security":
        return SAMPLE
    return N_TEST[row["dataset"]]


def flagged(rows: Iterable[PaperRow]) -> list[PaperRow]:
    """Return the rows with their flags and reasons filled in; none is left out."""
    listed = list(rows)
    twins = defaultdict[tuple[str, str, str], list[str]](list)
    for row in listed:
        if row["train_accuracy"]:
            twins[row["dataset"], row["train_accuracy"], row["test_accuracy"]].append(row["name"])
    done = []
    for row in listed:
        same = twins[row["dataset"], row["train_accuracy"], row["test_accuracy"]]
        found = dict(_doubts(row, [name for name in same if name != row["name"]]))
        reasons = "; ".join(reason for reason in found.values() if reason)
        done.append(row | {"flags": " ".join(sorted(found)), "reason": reasons})
    return done


def _doubts(row: PaperRow, twins: list[str]) -> Iterator[tuple[str, str]]:
    yield from _implausible(row)
    yield from _odd_attacks(row)
    if twins:
        yield "identical-figures", f"same train and test accuracy as {', '.join(sorted(twins))}"
    if row["run"]:
        yield "run-presumed", "run presumed from the order of the rows"
    if row["arxiv"] in OTHER_WORK:
        yield "paper-cites-other-work", f"cites arXiv {row['arxiv']}, not the model's origin"


def _implausible(row: PaperRow) -> Iterator[tuple[str, str]]:
    test, steal = _number(row, "test_accuracy"), _number(row, "paper_steal_accuracy")
    is_constant = _number(row, "paper_steal_agreement") == 1 and test == steal
    reasons = {}
    if is_constant:
        reasons["constant-prediction"] = (
            f"test accuracy {_fraction(row)} with a copy that always agrees: one class predicted"
        )
    if test is not None and test < 1 / int(row["num_classes"]):
        reasons["below-chance"] = f"test accuracy below chance with {row['num_classes']} classes"
    if row["dataset"] == "organmnist3d-v2":
        reasons["claim-below-published"] = "the authors report about 0.77 to 0.91 on this data set"
    if reasons:
        yield "implausible-claim", ""
        yield from reasons.items()


def _fraction(row: PaperRow) -> str:
    n_test = N_TEST[row["dataset"]]
    return f"{round(float(row['test_accuracy']) * n_test)}/{n_test}"


def _odd_attacks(row: PaperRow) -> Iterator[tuple[str, str]]:
    test, steal = _number(row, "test_accuracy"), _number(row, "paper_steal_accuracy")
    agreement = _number(row, "paper_steal_agreement")
    correct, entropy = _number(row, "paper_mia_correct_auc"), _number(row, "paper_mia_mentropy_auc")
    if steal is not None and agreement is not None and test is not None:
        if steal < 0.05 and test > 0.5:
            yield "failed-steal", f"stealing accuracy {row['paper_steal_accuracy']}"
        if steal > test + 0.02:
            yield "surrogate-beats-target", f"stolen copy {steal - test:.3f} above the model"
        if agreement < steal - 0.05:
            yield "agreement-below-accuracy", f"agreement {steal - agreement:.3f} below accuracy"
    if entropy is not None and entropy < 0.5:
        yield "mia-auc-below-half", f"modified-entropy AUC {row['paper_mia_mentropy_auc']}"
    if entropy is not None and correct is not None and entropy < correct:
        yield "mentropy-below-correct", "modified entropy below correctness"


def _number(row: Mapping[str, str], column: str) -> float | None:
    return float(row[column]) if row[column] else None


def tables(facts: Path | None) -> dict[str, str]:
    """Return the shipped tables made of the published Markdown: file name -> text.

    Args:
        facts: Folder that holds ``published_database.md``, in itself, in ``paper/`` or beside it
            in ``../paper/``.

    Raises:
        ResourceError: If it is not there.
    """
    markdown = find_markdown(facts).read_text(encoding="utf-8")
    return {TABLE: csv_text(COLUMNS, flagged(read_models(markdown))), LEADS: leads_text(markdown)}


def find_markdown(facts: Path | None) -> Path:
    """Return where the published Markdown lies.

    Raises:
        ResourceError: If it is not there.
    """
    folders = [] if facts is None else [facts, facts / "paper", facts.parent / "paper"]
    for folder in folders:
        if (folder / MARKDOWN).is_file():
            return folder / MARKDOWN
    raise ResourceError(f"{MARKDOWN} is not there", where=facts, hint="give its folder: --facts")


def paper_rows() -> list[PaperRow]:
    """Return the shipped rows of the published table, figures as printed, "" = not known.

    The table is ``data/paper.csv``; its columns are `paper_table.COLUMNS`.
    """
    return shipped_rows(TABLE)


def merged(cards: Iterable[ModelCard], rows: Iterable[PaperRow] | None = None) -> list[ModelCard]:
    """Return the cards with the table's claims, flags and publication facts added.

    Cards that the table does not have, and what a card already knows, stay as they are; merging
    twice changes nothing.

    Args:
        cards: Cards of any provider.
        rows: Rows of the table, by default the shipped ones.
    """
    by_id = {row["id"]: row for row in (paper_rows() if rows is None else rows)}
    return [_merge(card, by_id[card.id]) if card.id in by_id else card for card in cards]


def _merge(card: ModelCard, row: PaperRow) -> ModelCard:
    own = tuple(claim for claim in card.claims if not claim.source.startswith("paper"))
    flags = {flag for flag in card.flags if flag not in FLAGS} | set(row["flags"].split())
    mine, other = _value(own, "test_accuracy"), _number(row, "test_accuracy")
    if mine is not None and other is not None and abs(mine - other) > MAX_DISAGREEMENT:
        flags.add("claims-disagree")
    if _is_other_work(card.publication, row):
        flags.add("paper-cites-other-work")
    return replace(
        card,
        claims=(*own, *claims(row)),
        flags=tuple(sorted(flags)),
        origin=row["purpose"],
        family=card.family or row["family"],
        run=card.run or row["run"] or None,
        publication=_cited(card.publication, row),
    )


def _value(found: Iterable[Claim], metric: str) -> float | None:
    return next((claim.value for claim in found if claim.metric == metric), None)


def claims(row: PaperRow) -> tuple[Claim, ...]:
    """Return a row's figures as claims, the training-set size among them."""
    source = f"paper:{row['table']}"
    figures = [
        Claim(metric, float(row[metric]), source, n=n_samples(row, metric))
        for metric in FIGURES.values()
        if row[metric]
    ]
    return (*figures, Claim("train_size", float(row["train_size"]), source))


def _is_other_work(known: Publication | None, row: PaperRow) -> bool:
    arxiv = known.arxiv if known else None
    return row["arxiv"] in OTHER_WORK or bool(arxiv and row["arxiv"] and arxiv != row["arxiv"])


def _cited(known: Publication | None, row: PaperRow) -> Publication | None:
    """Fill what is not known of the publication, if the table cites the same one."""
    base = known or Publication()
    if _is_other_work(known, row):
        return known
    venue = (base.venue, base.venue_type, base.year)
    if base.venue is None or base.venue_type == "preprint":
        venue = (row["venue"], row["venue_type"], int(row["year"]))
    return replace(
        base,
        venue=venue[0],
        venue_type=venue[1] or row["venue_type"],
        year=venue[2] or int(row["year"]),
        arxiv=base.arxiv or row["arxiv"] or None,
        url=base.url or row["url"] or None,
        countries=base.countries or tuple(row["countries"].split()),
    )
