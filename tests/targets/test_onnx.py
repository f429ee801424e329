"""ONNX models as targets: the answers of the network they were exported from, and nothing else."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from securitynet.catalogue.cards import InputSpec, Weights
from securitynet.errors import AccessError, RefusedError, UsageError
from securitynet.registry import Access
from securitynet.targets.build import build_module, load_module, load_target
from securitynet.targets.drafts import draft_card
from securitynet.targets.preflight import problems
from securitynet.targets.target import as_pixels

pytest.importorskip("onnxruntime")

SIDE, CLASSES = 8, 10
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
BATCHES = {"open": "n", "fixed 1": 1, "fixed 4": 4}


@pytest.fixture
def network(linear):
    return linear()


@pytest.fixture
def export(tmp_path, onnx_bytes, network, card_of):
    """Write the linear network as ONNX and return its card."""
    b = onnx_bytes

    def export(*, batch="n", layout="NCHW", dtype="float32", end=(), **changes):
        weight, bias = (p.detach().numpy().astype(dtype) for p in network[1].parameters())
        sides = {"NCHW": (3, SIDE, SIDE), "NHWC": (SIDE, SIDE, 3), "flat": (3 * SIDE * SIDE,)}
        tensors = [b.tensor("w", weight), b.tensor("b", bias)]
        nodes, name = [], "x"
        if layout == "NHWC":
            nodes, name = [b.node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])], "t"
        nodes += [
            b.node("Flatten", [name], ["f"]),
            b.node("Gemm", ["f", "w", "b"], ["h"], transB=1),
            *(end or [b.node("Identity", ["h"], ["y"])]),
        ]
        kind = b.TYPES[dtype]
        inputs = [b.end("x", (batch, *sides[layout]), kind)]
        outputs = changes.pop("outputs", None) or [b.end("y", (batch, CLASSES), kind)]
        tensors += changes.pop("tensors", [])
        path = tmp_path / "model.onnx"
        path.write_bytes(b.model(b.graph(nodes, inputs, outputs, tensors)))
        values = {
            "architecture": "onnx", "weights": Weights(path=str(path)),
            "input": InputSpec(3, SIDE, SIDE, MEAN, STD),
        }  # fmt: skip
        return card_of(CLASSES, **(values | changes))

    return export


@pytest.fixture
def wanted(network, target_of, card_of):
    """Return the same network as a torch target."""
    return target_of(network, card_of(CLASSES, input=InputSpec(3, SIDE, SIDE, MEAN, STD)))


# answers


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "flat"])
def test_the_answers_are_those_of_the_network(batch, layout, export, wanted, images_of):
    target, images = load_target(export(batch=batch, layout=layout)), images_of(150)
    np.testing.assert_allclose(target.logits(images), wanted.logits(images), atol=1e-4)
    assert (target.labels(images) == wanted.labels(images)).all()
    assert target.queries == 300 and target.precision == "as-exported"
    assert target.runtime["provider"] == "CPUExecutionProvider"


@pytest.mark.parametrize(("dtype", "atol"), [("float16", 0.02), ("float64", 1e-4)])
def test_other_precisions_are_answered_in_kind(dtype, atol, export, wanted, images_of):
    target, images = load_target(export(dtype=dtype)), images_of(40)
    np.testing.assert_allclose(target.logits(images), wanted.logits(images), atol=atol)


def test_a_graph_that_says_it_takes_batches_and_does_not(export, wanted, images_of, onnx_bytes):
    b = onnx_bytes
    card = export(
        end=[b.node("Reshape", ["h", "one"], ["y"])],
        tensors=[b.tensor("one", np.array([1, CLASSES], np.int64))],
    )
    images = images_of(20)
    np.testing.assert_allclose(load_target(card).logits(images), wanted.logits(images), atol=1e-4)


def test_posteriors_are_noticed_and_their_logarithms_are_the_logits(
    export, wanted, images_of, onnx_bytes
):
    target = load_target(export(end=[onnx_bytes.node("Softmax", ["h"], ["y"])]))
    images = images_of(80)
    np.testing.assert_allclose(target.logits(images), wanted.log_scores(images), atol=1e-3)
    np.testing.assert_allclose(target.scores(images), wanted.scores(images), atol=1e-5)
    assert [found.flag for found in problems(target, images)] == ["outputs-softmax"]


def test_scores_that_end_in_a_map_of_one_pixel_are_flattened(export, wanted, images_of, onnx_bytes):
    b = onnx_bytes
    card = export(
        end=[b.node("Unsqueeze", ["h", "axes"], ["y"])],
        tensors=[b.tensor("axes", np.array([2, 3], np.int64))],
        outputs=[b.end("y", ("n", CLASSES, 1, 1))],
    )
    images = images_of(20)
    np.testing.assert_allclose(load_target(card).logits(images), wanted.logits(images), atol=1e-4)


def test_of_several_outputs_the_logits_are_taken_and_it_is_noted(
    export, wanted, images_of, onnx_bytes
):
    b = onnx_bytes
    card = export(
        end=[b.node("Neg", ["h"], ["y"]), b.node("Identity", ["h"], ["logits"])],
        outputs=[b.end("y", ("n", CLASSES)), b.end("logits", ("n", CLASSES))],
    )
    target, images = load_target(card), images_of(30)
    np.testing.assert_allclose(target.logits(images), wanted.logits(images), atol=1e-4)
    assert [found.flag for found in problems(target, images)] == ["wrapped-outputs"]


def test_answers_are_kept_between_runs(export, images_of, tmp_path, passes):
    card, images = export(), images_of(30)
    first = load_target(card, cache=tmp_path / "outputs").logits(images)
    again = load_target(card, cache=tmp_path / "outputs")
    sizes = passes(again.engine)
    assert (again.logits(images) == first).all() and sizes == [] and again.queries == 30


# access


def test_scores_are_all_there_is(export, images_of):
    target = load_target(export())
    assert target.access == Access.LOGITS
    assert target.engine.access == Access.LOGITS  # of the whole target, for pre-flight
    with pytest.raises(AccessError, match=r"needs GRADIENTS.*an ONNX model gives scores only"):
        target.module()
    for level in (Access.GRADIENTS, Access.WEIGHTS):
        with pytest.raises(AccessError, match=f"needs {level.name}.*scores only") as caught:
            target.limited(level)
        assert caught.value.flags == ("access",)
    limited = target.limited(Access.LOGITS)
    assert limited.logits(images_of(3)).shape == (3, CLASSES) and limited.queries == 3
    with pytest.raises(AccessError, match="needs WEIGHTS"):
        _ = limited.engine
    with pytest.raises(AccessError, match=r"needs SCORES.*a method declares"):
        target.limited(Access.LABELS).scores(images_of(3))


# graphs that are no classifiers of the card's pictures


def test_a_sound_graph_has_no_problems(export, images_of):
    assert problems(load_target(export()), images_of(64)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input": InputSpec(3, 16, 16)}, "the graph takes . x 3 x 8 x 8, the card says"),
        ({"input": InputSpec(1, SIDE, SIDE)}, "the card says pictures of 1 x 8 x 8"),
        ({"input": InputSpec(3, SIDE, SIDE, depth=SIDE)}, "the graph takes"),
    ],
)  # fmt: skip
def test_pictures_that_do_not_fit_are_refused(changes, reason, export):
    with pytest.raises(RefusedError, match=reason):
        load_target(export(**changes))


def ends(b):
    """Return graphs from and to other things than pictures and scores."""
    x, y = b.end("x", ("n", 3, SIDE, SIDE)), b.end("y", ("n", 192))
    flat = [b.node("Flatten", ["x"], ["y"])]
    whole = [b.node("Flatten", ["x"], ["f"]), b.node("ArgMax", ["f"], ["y"], axis=1)]
    two = [b.node("Add", ["x", "z"], ["s"]), b.node("Flatten", ["s"], ["y"])]
    return {
        "2 inputs": b.graph(two, [x, b.end("z", ("n", 3, SIDE, SIDE))], [y]),
        "takes tensor.uint8": b.graph(
            flat, [b.end("x", ("n", 3, SIDE, SIDE), b.UINT8)], [b.end("y", ("n", 192), b.UINT8)]
        ),
        "returns tensor.int64.: no tensor of scores": b.graph(
            whole, [x], [b.end("y", ("n", 1), b.INT64)]
        ),
    }


@pytest.mark.parametrize(
    "reason", ["2 inputs", "takes tensor.uint8", "returns tensor.int64.: no tensor of scores"]
)
def test_other_graphs_are_refused_with_a_reason(reason, export, onnx_bytes, tmp_path):
    card = export()
    (tmp_path / "model.onnx").write_bytes(onnx_bytes.model(ends(onnx_bytes)[reason]))
    with pytest.raises(RefusedError, match=reason):
        load_target(card)
    with pytest.raises(RefusedError, match=reason):
        draft_card(tmp_path / "model.onnx")


def odd(b):
    nan = b.tensor("odd", np.array([np.nan], np.float32))
    zero = b.tensor("odd", np.array([0], np.float32))
    huge = b.tensor("odd", np.array([1e9], np.float32))
    return {
        "not-finite": ([b.node("Add", ["h", "odd"], ["y"])], [nan]),
        "constant-target": ([b.node("Mul", ["h", "odd"], ["y"])], [zero]),
        "preflight": ([b.node("Mul", ["h", "odd"], ["y"])], [huge]),
        "class-count": ([b.node("Concat", ["h", "h"], ["y"], axis=1)], []),
    }


@pytest.mark.parametrize("flag", ["not-finite", "constant-target", "preflight", "class-count"])
def test_pre_flight_looks_at_onnx_models_too(flag, export, images_of, onnx_bytes):
    end, tensors = odd(onnx_bytes)[flag]
    outputs = [onnx_bytes.end("y", ("n", "k"))]
    target = load_target(export(end=end, tensors=tensors, outputs=outputs))
    assert flag in [found.flag for found in problems(target, images_of(64)) if found.is_fatal]


def test_random_answers_are_found(export, images_of, onnx_bytes):
    b = onnx_bytes
    noise = [
        b.node("RandomNormalLike", ["h"], ["r"], scale=1.0),
        b.node("Add", ["h", "r"], ["y"]),
    ]
    found = problems(load_target(export(end=noise)), images_of(64))
    assert any("random" in problem.line and problem.is_fatal for problem in found)


# cards


def test_a_card_and_its_file_must_agree(export, tmp_path, network):
    card = export()
    with pytest.raises(UsageError, match='give "architecture": "onnx"'):
        load_module(replace(card, architecture="securitynet/cnn_small"))
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    other = replace(card, weights=Weights(path=str(tmp_path / "weights.safetensors")))
    with pytest.raises(UsageError, match="is safetensors, not an ONNX model"):
        load_target(other)
    for ask in (load_module, build_module):
        with pytest.raises(UsageError, match="no module to train"):
            ask(card)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_draft_takes_its_facts_from_the_graph(layout, export, tmp_path):
    export(layout=layout)
    draft = draft_card(tmp_path / "model.onnx")
    assert draft.card["architecture"] == draft.card["weights"]["format"] == "onnx"
    assert draft.card["num_classes"] == CLASSES and draft.n_tensors == 2
    sizes = {"channels": 3, "height": SIDE, "width": SIDE, "mean": None, "std": None}
    assert draft.card["input"] == sizes and draft.card["params"] is None
    advice = " ".join(draft.advice)
    assert "input.mean" in advice and "height" not in advice and "architecture" not in advice


def test_what_a_graph_leaves_open_stays_null(export, tmp_path):
    export(layout="flat")
    draft = draft_card(tmp_path / "model.onnx")
    assert set(draft.card["input"].values()) == {None}
    assert any("height" in line for line in draft.advice)


def test_pixels_are_answered_as_images_are(export, images_of):
    target, images = load_target(export()), images_of(12)
    assert (target.logits(as_pixels(images.pixels())) == target.logits(images)).all()
    assert json.dumps(asdict(target.card.input))
    assert isinstance(target.engine.plain[1], nn.Module) and target.device == torch.device("cpu")
