"""One model's jobs: every job ends as a record, whatever the model, the method or the data do."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from securitynet.catalogue.cards import load_card
from securitynet.datasets.images import make_audit
from securitynet.datasets.library import load_dataset
from securitynet.errors import AccessError, RefusedError, ResourceError, UsageError
from securitynet.evidence import MembershipEvidence
from securitynet.files.digest import digest
from securitynet.registry import Access, get_method, methods
from securitynet.reports.wording import FLAGS, UNEXPLAINED, flag_text
from securitynet.runs import work
from securitynet.runs.plan import Audits, Settings, choose_methods, make_group
from securitynet.runs.store import Store
from securitynet.runs.work import run_group


@pytest.fixture(scope="module")
def solved():
    """Return weights of a linear classifier of the digits by least squares, and its accuracy."""
    digits = load_dataset("digits")

    def design(images):
        flat = images.pixels().reshape(len(images), -1) / 255
        return np.c_[flat, np.ones(len(images))]

    goal = np.eye(10)[digits.train.labels] * 10
    solution = np.linalg.lstsq(design(digits.train), goal, rcond=1e-4)[0]
    answers = (design(digits.test) @ solution).argmax(1)
    accuracy = float((answers == digits.test.labels).mean())
    weight, bias = torch.tensor(solution[:-1].T), torch.tensor(solution[-1])
    return {"1.weight": weight.float().contiguous(), "1.bias": bias.float()}, accuracy


@pytest.fixture
def card_of(solved, tmp_path):
    """Return a function that writes a card of that classifier, changed as told."""
    tensors, accuracy = solved

    def card_of(code=None, claimed=accuracy, **changes):
        save_file(tensors, tmp_path / "model.safetensors")
        claim = {"metric": "test_accuracy", "value": claimed, "source": "least squares"}
        card = {
            "name": "linear",
            "dataset": "digits",
            "num_classes": 10,
            "architecture": ["flatten", {"linear": [64, 10]}],
            "input": {"channels": 1, "height": 8, "width": 8},
            "weights": {
                "path": "model.safetensors",
                "checksum": digest(tmp_path / "model.safetensors"),
                "checksum_algorithm": "sha256",
            },
            "claims": [] if claimed is None else [claim],
            **changes,
        }
        if code is not None:
            (tmp_path / "net.py").write_text(code)
            card["architecture"] = "net.py:build"
        (tmp_path / "card.json").write_text(json.dumps(card))
        return load_card(tmp_path / "card.json")

    return card_of


@dataclass
class Outcome:
    records: list
    told: list
    progress: list
    store: Store

    def __iter__(self):
        return iter(self.records)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs methods on a card and returns what was kept and told."""

    def run(card, names, *, options=(), notes=(), limit=None, folder="store", **settings):
        audits = Audits(limit)
        settings = Settings(limit=limit, trust=tmp_path / "net.py", **settings)
        choices = choose_methods([names] if isinstance(names, str) else names, options)
        group = make_group(card, choices, settings, audits)
        audit = replace(audits.of(card, settings), notes=tuple(notes))
        store, told, progress = Store(tmp_path / folder), [], []
        run_group(group, audit, store, lambda *report: progress.append(report), told.append)
        records = [store.get(job.key) for job in group.jobs]
        return Outcome(records, told, progress, store)

    return run


# records

QUERIES = {"mia.label_noise": 25 * 1000, "mia.label_augment": 7 * 1000}


def test_the_records_of_a_sound_model(card_of, run, solved):
    outcome = run(card_of(), "membership")
    assert len(outcome.records) == 13 and outcome.told == outcome.records
    for record in outcome:
        assert record.status == "ok" and record.error is None
        assert record.seconds > 0 and record.queries == QUERIES.get(record.method, 1194)
        assert record.measures["test_accuracy"].value == pytest.approx(solved[1], abs=0.02)
        facts = record.environment
        assert {"securitynet", "torch", "numpy", "python", "threads"} <= set(facts)
        assert facts["device"] == "cpu" and facts["precision"] in ("fp32", "bf16+fp32")
        assert record.details["gate"]["claimed"] == solved[1]
        assert record.details["parity"]["precision"] == facts["precision"]
        assert record.details["parity"]["label_agreement"] >= 0.999
        assert record.details["preflight"] == []
        assert set(record.flags) <= {"few-nonmembers", "untuned-noise", "one-control"}
        json.dumps(record.to_json(), allow_nan=False)
    gap = next(record for record in outcome if record.method == "mia.correctness")
    half = (1 + gap.measures["gap"].value) / 2
    assert gap.measures["auc"].value == pytest.approx(half, abs=1e-9)


def test_the_same_job_gives_the_same_figures(card_of, run, tmp_path):
    first = run(card_of(), "membership", cache=tmp_path / "cache")
    again = run(card_of(), "membership", cache=tmp_path / "cache", folder="again")
    fresh = run(card_of(), "membership", folder="fresh")
    for other in (again, fresh):
        for one, two in zip(first, other, strict=True):
            assert one.key == two.key and one.measures == two.measures


NOTES = ("jpeg-compressed", "skipped-images:3", "resized-images", "other-size:597+1200")


def test_notes_of_the_data_are_flags_of_every_record(card_of, run, monkeypatch):
    fine = run(card_of(), "mia.loss", notes=NOTES)
    refused = run(card_of(claimed=0.2), "mia.loss", notes=NOTES, folder="refused")
    stand_in(monkeypatch, "mia.loss", raising(ValueError("broken")))
    failed = run(card_of(), "mia.loss", notes=NOTES, folder="failed")
    statuses = []
    for outcome in (fine, refused, failed):
        (record,) = outcome.records
        statuses.append(record.status)
        assert record.flags[-len(NOTES) :] == NOTES and outcome.told == [record]
    assert statuses == ["ok", "refused", "failed"]


@pytest.mark.parametrize("note", NOTES)
def test_notes_are_explained_to_readers(note):
    assert flag_text(note) != UNEXPLAINED and note.split(":")[0] in FLAGS


# methods that fail


def fake(name, body):
    """Return a registered method with another body."""

    @dataclass(frozen=True, kw_only=True)
    class Fake:
        def __call__(self, target, data, context):
            return body(data, context)

    return replace(get_method(name), config=Fake)


def raising(error):
    def body(data, context):
        raise error

    return body


def scoring(values, **more):
    return lambda data, context: MembershipEvidence(values(len(data.audit)), **more)


TROUBLES = {
    "two lines": (raising(ValueError("one\nand two")), "failed", "ValueError: one and two"),
    "no text": (raising(KeyError("name")), "failed", "KeyError: 'name'"),
    "memory": (raising(MemoryError()), "failed", "MemoryError:"),
    "access": (raising(AccessError("too much", where="x")), "failed", "x: too much"),
    "refusal": (raising(RefusedError("unsound", flags=["budget"])), "refused", "unsound"),
    "no evidence": (lambda *_: None, "failed", "TypeError: a method must return evidence"),
    "too few scores": (scoring(lambda n: np.zeros(3)), "failed", "one score a sample"),
    "NaN": (scoring(lambda n: np.full(n, np.nan)), "failed", "none of them NaN"),
    "what JSON cannot hold": (scoring(np.arange, flags=(float("nan"),)), "failed", "ValueError"),
}


def stand_in(monkeypatch, name, body):
    """Let a body take the place of one method."""
    method = fake(name, body)
    monkeypatch.setattr(work, "get_method", lambda n: method if n == name else get_method(n))


@pytest.mark.parametrize("name", TROUBLES)
def test_a_method_that_fails_is_a_record_and_the_sweep_goes_on(name, card_of, run, monkeypatch):
    body, status, words = TROUBLES[name]
    stand_in(monkeypatch, "mia.entropy", body)
    outcome = run(card_of(), ["mia.loss", "mia.entropy", "mia.logit"])
    before, broken, after = outcome
    assert (before.status, broken.status, after.status) == ("ok", status, "ok")
    assert words in broken.error and "\n" not in broken.error
    assert broken.measures == {} and broken.seconds > 0
    assert broken.environment["device"] == "cpu" and "torch" in broken.environment
    assert ("budget" in broken.flags) == (name == "refusal")
    assert outcome.told == outcome.records


def test_a_stop_by_the_user_is_not_a_record(card_of, run, monkeypatch):
    stand_in(monkeypatch, "mia.loss", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(card_of(), "mia.loss")


def test_a_store_that_cannot_be_written_ends_the_run(card_of, run, tmp_path):
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(ResourceError, match="cannot write"):
        run(card_of(), "mia.loss")


# targets that are refused

SOFTMAX = """
import torch
from torch import nn
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
"""
BROKEN = """
import torch
from torch import nn
class Broken(nn.Sequential):
    def forward(self, x):
        logits = nn.functional.dropout(super().forward(x), 0.5, training=True)
        logits[0] = float("nan")
        return logits[:, :9]
def build():
    return Broken(nn.Flatten(), nn.Linear(64, 10))
"""


def test_every_record_of_bytes_that_nothing_vouches_for_says_so(card_of, run, monkeypatch):
    weights = {"path": "model.safetensors"}
    fine = run(card_of(weights=weights), "mia.loss")
    refused = run(card_of(weights=weights, claimed=0.2), "mia.loss", folder="refused")
    stand_in(monkeypatch, "mia.loss", raising(ValueError("broken")))
    failed = run(card_of(weights=weights), "mia.loss", folder="failed")
    statuses = [record.status for outcome in (fine, refused, failed) for record in outcome]
    assert statuses == ["ok", "refused", "failed"]
    for outcome in (fine, refused, failed):
        assert all(record.flags[-1] == "unverified-bytes" for record in outcome)
    vouched = run(card_of(), "mia.loss", folder="vouched")
    assert not any("unverified-bytes" in record.flags for record in vouched)


def test_a_target_that_the_gate_refuses_refuses_all_its_jobs(card_of, run):
    outcome = run(card_of(claimed=0.2), ["membership", "backdoor.strip"])
    assert len(outcome.records) == 14 and outcome.told == outcome.records
    for record in outcome:
        assert record.status == "refused" and record.flags == ("accuracy-gate",)
        assert "points off the published 0.200" in record.error and "--force" in record.error
        assert record.measures == {} and record.seconds > 0 and "torch" in record.environment


def test_force_flags_every_record(card_of, run):
    outcome = run(card_of(claimed=0.2), "membership", is_forced=True)
    assert all(record.status == "ok" for record in outcome)
    assert all("accuracy-gate" in record.flags for record in outcome)
    free = run(card_of(claimed=None), "membership", folder="free")
    for record in free:
        assert "no-claim" in record.flags and "accuracy-gate" not in record.flags


def test_preflight_refuses_with_all_reasons(card_of, run):
    outcome = run(card_of(BROKEN), ["mia.loss", "mia.entropy"], is_forced=True)
    assert len(outcome.records) == 2
    for record in outcome:
        assert record.status == "refused"
        for part in ("[64, 9]", "not finite (NaN)", "dropout"):
            assert part in record.error
        assert record.flags == ("preflight", "class-count", "not-finite")
        assert "\n" not in record.error


def test_a_model_that_cannot_be_opened_fails_all_its_jobs(card_of, run, tmp_path, monkeypatch):
    card = card_of(architecture=["flatten", {"linear": [64, 11]}])
    for record in run(card, ["mia.loss", "mia.entropy"]):
        assert record.status == "failed" and "does not fit the architecture" in record.error
    card = card_of("import torch\nraise ValueError('own code')\n")
    for record in run(card, ["mia.loss", "mia.entropy"], folder="second"):
        assert record.status == "failed" and record.error == "ValueError: own code"


def test_posteriors_give_the_figures_of_their_logits(card_of, run):
    plain = run(card_of(), "membership")
    softmax = run(card_of(SOFTMAX), "membership", folder="softmax")
    for one, two in zip(plain, softmax, strict=True):
        assert "outputs-softmax" in two.flags and "outputs-softmax" not in one.flags
        assert "posteriors" in two.details["preflight"][0]
        assert two.measures["auc"].value == pytest.approx(one.measures["auc"].value, abs=2e-3)


def test_the_record_says_when_fast_inference_was_given_up(card_of, run, monkeypatch):
    from securitynet.targets.engine import Engine

    monkeypatch.setattr(Engine, "_folds_exactly", lambda *given: False)
    (record,) = run(card_of(), "mia.loss")
    assert record.status == "ok" and "fp32-fallback" in record.flags
    assert record.environment["precision"] == "fp32-plain"
    assert record.details["parity"]["is_fallback"] is True


# progress


def test_progress_never_falls_and_ends_at_one(card_of, run, monkeypatch):
    def jump(data, context):
        for share in (0.5, -3.0, 0.2, 7.0, 0.9):
            context.progress(share, "jumping")
        return MembershipEvidence(np.arange(len(data.audit), dtype=float))

    stand_in(monkeypatch, "mia.entropy", jump)
    outcome = run(card_of(), ["mia.loss", "mia.entropy", "mia.logit"])
    shares = [share for share, _ in outcome.progress]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    jumping = [share for share, what in outcome.progress if "jumping" in what]
    assert min(jumping) >= 2 / 4 and max(jumping) <= 3 / 4  # opening and one job are done
    assert any("asking the model" in what for _, what in outcome.progress)
    assert all(what.startswith("local/linear: ") for _, what in outcome.progress)


def test_progress_of_a_refused_target_ends_at_one_too(card_of, run):
    outcome = run(card_of(claimed=0.2), "membership")
    shares = [share for share, _ in outcome.progress]
    assert shares == sorted(shares) and shares[-1] == 1


# access and queries of every method

QUICK = {
    "steal.knockoff": ["steal.knockoff.epochs=1", "steal.knockoff.n_seeds=1"],
    "backdoor.neural_cleanse": [
        "backdoor.neural_cleanse.n_steps=12", "backdoor.neural_cleanse.batch_size=4",
        "backdoor.neural_cleanse.n_judged=20",
    ],
    "backdoor.strip": ["backdoor.strip.n_overlays=4", "backdoor.strip.n_scored=40"],
    "backdoor.mm_bd": ["backdoor.mm_bd.n_restarts=1", "backdoor.mm_bd.n_steps=10"],
    "backdoor.neo": ["backdoor.neo.n_scored=20", "backdoor.neo.n_pasted=10"],
    "mia.boundary": [
        "mia.boundary.samples=10", "mia.boundary.iterations=1", "mia.boundary.probes=4",
    ],
    "mia.label_noise": ["mia.label_noise.samples=50"],
    "steal.active": ["steal.active.n_seeds=1", "steal.active.surrogate=mlp"],
    "steal.jacobian": ["steal.jacobian.n_seeds=1", "steal.jacobian.surrogate=mlp"],
}  # fmt: skip
ALL_VARIANTS = [
    (name, variant) for name, method in methods().items() for variant in method.variants or ({},)
]
VARIANTS = [
    (name, variant)
    for name, variant in ALL_VARIANTS
    if not {"references", "in_references"} & set(get_method(name).needs_of(variant))
]
"""Those that need references have no job without."""


ABOVE_LABELS = [pair for pair in VARIANTS if get_method(pair[0]).access > Access.LABELS]
"""Labels are the least there is: below them no method can be run."""


def variant_options(name, variant):
    given = [f"{name}.{key}={value}" for key, value in variant.items()]
    return [*QUICK.get(name, []), *given]


class Counting:
    """A target that counts what is really asked of it, by its own book."""

    def __init__(self, target, family):
        self.__dict__.update(target=target, family=family, n_asked=0)

    def __getattr__(self, name):
        return getattr(self.target, name)

    def __setattr__(self, name, value):
        place = self.__dict__ if name in self.__dict__ else self.target.__dict__
        place[name] = value

    def ask(self, name, images):
        self.n_asked += len(images)
        return getattr(self.target, name)(images)

    def labels(self, images):
        return self.ask("labels", images)

    def scores(self, images):
        return self.ask("scores", images)

    def log_scores(self, images):
        return self.ask("log_scores", images)

    def logits(self, images):
        return self.ask("logits", images)

    def module(self):
        inner, outer = self.target.module(), self

        class Counted(nn.Module):
            def forward(self, inputs):
                outer.n_asked += len(inputs)
                return inner(inputs)

        return Counted()

    def limited(self, access):
        child = Counting(self.target.limited(access), self.family)
        self.family.append(child)
        return child


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=str)
def test_the_number_of_queries_is_what_was_really_asked(name, variant, card_of, run, monkeypatch):
    limited = []
    load = work.load_target
    monkeypatch.setattr(
        work, "load_target", lambda *given, **named: Counting(load(*given, **named), limited)
    )
    (record,) = run(card_of(), name, options=variant_options(name, variant), limit=400)
    assert record.status == "ok", record.error
    # Each half of a cross-fit is an adversary of its own, and asks the same images.
    assert {target.n_asked for target in limited} == {record.queries} and record.queries > 0
    assert {target.access for target in limited} == {get_method(name).access}


@pytest.mark.parametrize(("name", "variant"), ABOVE_LABELS, ids=str)
def test_one_level_below_what_it_declares_a_method_gets_nothing(
    name, variant, card_of, run, monkeypatch
):
    """In the harness: the target is refused to the method before it runs."""
    declared = get_method(name).access
    load = work.load_target

    def lower(*given, **named):
        target = load(*given, **named)
        preflight = target.limited

        def limited(access):
            target._granted = Access(declared - 1)
            return preflight(access)

        target.limited = limited
        return target

    monkeypatch.setattr(work, "load_target", lower)
    (record,) = run(card_of(), name, options=variant_options(name, variant), limit=400)
    assert record.status == "failed" and record.measures == {}
    assert f"needs {declared.name} access, has {Access(declared - 1).name}" in record.error


NAMES_ABOVE_LABELS = sorted(
    {name for name, _ in ALL_VARIANTS if get_method(name).access > Access.LABELS}
)


@pytest.mark.parametrize("name", NAMES_ABOVE_LABELS)
def test_a_method_by_itself_meets_the_same_wall(name, card_of):
    """Without the harness: the target refuses the first answer above its level."""
    from securitynet.targets.build import load_target
    from securitynet.targets.context import Context
    from securitynet.targets.references import References

    method = get_method(name)
    target = load_target(card_of()).limited(Access(method.access - 1))
    audit = make_audit(load_dataset("digits"), limit=400)
    flat = np.full((len(audit.is_member), 10), np.log(0.1))
    everyone = np.ones((2, len(flat)), dtype=bool)
    references = References("flat", everyone, everyone, lambda r: flat, lambda r: None)
    context = Context(references=references, known=audit.is_member.astype(np.int8))
    with pytest.raises(AccessError, match=f"needs {method.access.name} access"):
        method.configure()(target, audit.data, context)


# public models


@pytest.mark.public
def test_a_public_model_on_jpeg_copies_needs_force(
    tmp_path, public_models, public_data, monkeypatch
):
    from securitynet.catalogue.database import find_card

    monkeypatch.setenv("SECURITYNET_MIRROR", str(public_models))
    monkeypatch.setenv("SECURITYNET_DATA", str(public_data))
    card, audits = find_card("community/akamaster-resnet20"), Audits(1000)
    audit = audits.of(card, Settings())
    choices = choose_methods(["mia.loss", "mia.mlp", "mia.class_pvalue"])
    for is_forced in (False, True):
        group = make_group(card, choices, Settings(limit=1000, is_forced=is_forced), audits)
        records = []
        run_group(group, audit, Store(tmp_path / "s"), lambda *_: None, records.append)
        assert len(records) == 3
        for record in records:
            assert record.status == ("ok" if is_forced else "refused")
            assert {"accuracy-gate", "jpeg-compressed"} <= set(record.flags)
            if not is_forced:
                assert "published 0.917" in record.error and "JPEG-compressed" in record.error
                assert "--force" in record.error


# what a thief asks

THEFT = ("steal.knockoff.surrogate=mlp", "steal.knockoff.n_seeds=1", "steal.knockoff.response=soft")


def test_a_thief_may_ask_about_another_data_set(card_of, run, dark_and_bright):
    folder = dark_and_bright(12, 40)
    options = (*THEFT, f"steal.knockoff.queries=ood:{folder}")
    (record,) = run(card_of(), "steal.knockoff", options=options)
    assert record.status == "ok" and "ood-queries" in record.flags
    measures = record.measures
    assert measures["budget"].value == 160 and record.queries == 160 + measures["agreement"].n
    for name in ("floor_agreement", "excess_agreement"):
        assert measures[name].value is None and measures[name].n == 600
    constant = record.nulls["constant_agreement"]
    assert 0.08 < constant.value < 0.2 and constant.n == 600  # of ten digits
    assert measures["agreement"].value < 0.6
    assert len(record.conditions["queries"]) == 64
    (again,) = run(card_of(), "steal.knockoff", options=THEFT, folder="other")
    assert again.key != record.key and again.conditions == {}


def test_training_images_as_queries_are_flagged(card_of, run):
    (record,) = run(card_of(), "steal.knockoff", options=(*THEFT, "steal.knockoff.queries=train"))
    assert "train-queries" in record.flags and record.nulls == {}
    assert record.measures["budget"].value == 597
    assert record.measures["floor_agreement"].value > 0.7
    (bare,) = run(card_of(), "steal.knockoff", options=THEFT, folder="other")
    assert "train-queries" not in bare.flags and bare.measures["budget"].value == 600


def test_a_thief_may_not_call_the_targets_own_data_another(card_of, run):
    with pytest.raises(UsageError, match="own data set"):
        run(card_of(), "steal.knockoff", options=(*THEFT, "steal.knockoff.queries=ood:digits"))
