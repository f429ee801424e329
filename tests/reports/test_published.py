"""The audited models among published ones: the right points, nothing made up."""

from dataclasses import replace

import pytest

from securitynet.records import Measure
from securitynet.reports.published import published_pictures


def row(name, dataset="cifar10", flags=(), source="paper", **figures):
    claims = [{"metric": m, "value": v, "source": source} for m, v in figures.items()]
    claims.append({"metric": "test_accuracy", "value": 0.111, "source": "somebody else"})
    return {"id": name, "dataset": dataset, "flags": list(flags), "source": [source],
            "claims": claims}  # fmt: skip


LEAK = {"train_accuracy": 0.99, "test_accuracy": 0.93, "paper_mia_mentropy_auc": 0.56}
THEFT = {"test_accuracy": 0.93, "paper_steal_accuracy": 0.76}
ROWS = [
    row("a", **LEAK), row("b", **THEFT), row("c", dataset="svhn", **LEAK | THEFT),
    row("d", flags=("implausible-claim",), **THEFT), row("e", source="timm", **LEAK),
]  # fmt: skip


@pytest.fixture
def leak(make):
    def leak(model="m", per_class=False, auc=0.6, dataset="cifar10", **values):
        measures = {"auc": Measure(auc, 0.58, 0.62, 99), "gap": Measure(0.07)}
        config = {"per_class": per_class}
        return make.record(model, "mia.modified_entropy", measures=measures, config=config,
                           dataset=dataset, **values)  # fmt: skip

    return leak


@pytest.fixture
def theft(make):
    def theft(response, accuracy):
        measures = {"accuracy": Measure(accuracy, 0.6, 0.7), "target_accuracy": Measure(0.9)}
        return make.record("m", "steal.knockoff", measures=measures, config={"response": response})

    return theft


def drawn(picture):
    """Return the published points, and the audited ones by name."""
    first, *rest = picture.content.lines
    points = {line.name: line.points for line in rest if line.marker}
    return first.points, points


def test_a_leak_is_placed_by_gap_and_global_modified_entropy(leak):
    (picture,) = published_pictures([leak(per_class=True, auc=0.9), leak()], ROWS)
    published, audited = drawn(picture)
    assert published == ((pytest.approx(0.06), 0.56),)
    assert audited == {"m": ((0.07, 0.6),)}
    assert ((0.07, 0.58), (0.07, 0.62)) in [line.points for line in picture.content.lines]
    assert "1 models on cifar10" in picture.caption and "left out" not in picture.caption


def test_copies_of_training_images_are_not_compared_with_published_ones(theft):
    leaky = replace(theft("soft", 0.9), flags=("train-queries",))
    (picture,) = published_pictures([leaky, theft("hard", 0.5)], ROWS)
    assert drawn(picture)[1] == {"m": ((0.9, 0.5),)}


def test_soft_copies_are_compared_first_and_implausible_rows_counted(theft):
    (picture,) = published_pictures([theft("hard", 0.5), theft("soft", 0.65)], ROWS)
    published, audited = drawn(picture)
    assert published == ((0.93, 0.76),) and audited == {"m": ((0.9, 0.65),)}
    assert "1 with implausible figures are left out" in picture.caption
    assert drawn(published_pictures([theft("hard", 0.5)], ROWS)[0])[1] == {"m": ((0.9, 0.5),)}


def test_a_data_set_without_published_models_is_shown_beside_all(leak):
    (picture,) = published_pictures([leak(dataset="digits")], ROWS)
    assert len(drawn(picture)[0]) == 2
    assert "on all data sets" in picture.caption
    assert "No published model was trained on this data set" in picture.caption


def test_many_models_share_the_last_colour_and_one_entry(leak):
    (picture,) = published_pictures([leak(f"m{i}") for i in range(9)], ROWS)
    named = [line.name for line in picture.content.named]
    assert named[1:] == ["m0", "m1", "m2", "m3", "m4", "further audited models"]
    assert sum(line.marker == "circle" for line in picture.content.lines) == 9


@pytest.mark.parametrize("rows", [[], ROWS[-1:]])
def test_without_published_figures_there_is_no_chart(rows, leak):
    assert published_pictures([leak()], rows) == []


def test_unknown_figures_and_failures_are_not_drawn(leak, make):
    unknown = make.record("m", "mia.modified_entropy", measures={"auc": Measure(0.6)})
    failed = leak(status="failed", error="no")
    of_a_part = leak(flags=("imagenet-proxy",))
    assert published_pictures([unknown, failed, of_a_part], ROWS) == []
    assert published_pictures([], ROWS) == []
