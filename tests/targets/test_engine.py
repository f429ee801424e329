"""The fast path against plain fp32: folding, parity, memory, batches."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from securitynet.errors import RefusedError
from securitynet.targets import engine as engine_module
from securitynet.targets import parity
from securitynet.targets.architectures import cifar_resnet
from securitynet.targets.engine import as_logits


def pixels_of(n, channels=3, side=8, seed=0):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def run(engine, pixels):
    return engine.run(lambda i, j: pixels[i:j], len(pixels))


def direct(module, pixels):
    """Ask the module itself: eval mode, fp32, one image at a time."""
    module = copy.deepcopy(module).eval()
    with torch.inference_mode():
        return torch.cat([as_logits(module(pixel[None])) for pixel in pixels]).numpy()


def torchvision_resnet():
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


def pytorchcv_resnet():
    from pytorchcv.model_provider import get_model

    return get_model("resnet20_cifar10")


def timm_resnet():
    import timm

    return timm.create_model("resnet10t", num_classes=10)


NETS = {
    "own": lambda: cifar_resnet("cifar_resnet20_a", num_classes=10, channels=3),
    "own-b": lambda: cifar_resnet("cifar_resnet8_b", num_classes=10, channels=3),
    "torchvision": torchvision_resnet,
    "pytorchcv": pytorchcv_resnet,
    "timm": timm_resnet,
}


@pytest.mark.parametrize("name", NETS)
def test_folding_keeps_every_logit(name, engine_of, shaken):
    torch.manual_seed(0)
    module = shaken(NETS[name]())
    pixels = pixels_of(5, side=32)
    expected = direct(module, pixels)
    engine = engine_of(module, side=32)
    np.testing.assert_allclose(run(engine, pixels), expected, atol=1e-4 * np.abs(expected).max())
    left = [m for m in engine.fast.modules() if type(m) is nn.BatchNorm2d]
    n_before = sum(type(m) is nn.BatchNorm2d for m in module.modules())
    assert engine.precision == "fp32" and not left and n_before >= (6 if name != "timm" else 0)


def test_the_given_module_is_left_alone(engine_of, shaken):
    module = shaken(NETS["own-b"]()).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    engine = engine_of(module, side=32)
    run(engine, pixels_of(3, side=32))
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(part.training for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert not any(parameter.requires_grad for parameter in engine.fast.parameters())


class Branching(nn.Module):
    """Cannot be traced: the graph depends on the data."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.linear = nn.Linear(6, 10)

    def forward(self, inputs):
        hidden = self.norm(self.conv(inputs)).mean((2, 3))
        return self.linear(hidden) if float(inputs.sum()) > -1e9 else hidden


def test_what_cannot_be_traced_is_copied(engine_of, shaken):
    module = shaken(Branching())
    engine = engine_of(module)
    pixels = pixels_of(6)
    np.testing.assert_allclose(run(engine, pixels), direct(module, pixels), atol=1e-5)
    assert engine.precision == "fp32" and engine.fast is not engine.plain
    assert any(isinstance(part, nn.BatchNorm2d) for part in engine.fast.modules())


class Shared(nn.Module):
    """One convolution before two BatchNorms: the tracer folds both into it."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(16, 10)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(8)])

    def forward(self, inputs):
        parts = [norm(self.conv(inputs)).relu().mean((2, 3)) for norm in self.norms]
        return self.linear(torch.cat(parts, 1))


class Flattening(nn.Module):
    """Flattens with ``view``, which needs contiguous memory: channels-last breaks it."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 10)

    def forward(self, inputs):
        hidden = self.conv(inputs)
        return self.linear(hidden.view(hidden.shape[0], -1))


@pytest.mark.parametrize("kind", [Shared, Flattening])
def test_a_fold_that_breaks_the_model_is_not_used(kind, engine_of, shaken):
    torch.manual_seed(0)
    module = shaken(kind())
    channels_last = pixels_of(6).contiguous(memory_format=torch.channels_last)
    engine = engine_of(module)
    np.testing.assert_allclose(run(engine, channels_last), direct(module, pixels_of(6)), atol=1e-5)
    assert engine.precision == "fp32-plain" and engine.fast is engine.plain
    parity = check(engine, pixels_of(8), pixels_of(8, seed=1))
    assert parity.precision == "fp32-plain" and parity.is_fallback


def test_the_premise_holds_that_folding_breaks_the_shared_convolution(shaken):
    torch.manual_seed(0)
    module = shaken(Shared())
    pixels = pixels_of(6)
    with torch.inference_mode():
        folded = torch.fx.experimental.optimization.fuse(module)(pixels).numpy()
    assert np.abs(folded - direct(module, pixels)).max() > 0.05


def test_a_module_that_cannot_be_copied_is_run_as_it_is(engine_of):
    torch.manual_seed(0)
    layer = nn.Linear(192, 10)
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(layer)
    module = nn.Sequential(nn.Flatten(), layer)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    pixels = pixels_of(4)
    with torch.inference_mode():
        expected = module(pixels).numpy()
    np.testing.assert_allclose(run(engine_of(module), pixels), expected, atol=1e-5)


# parity


def check(engine, first, second, seed=0):
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, 10, len(part)) for part in (first, second)]
    return engine.check_parity(first, second, *labels)


class Moody(nn.Module):
    """Changes the logits of bright images by ``shift`` under autocast; cannot be traced."""

    def __init__(self, linear, shift):
        super().__init__()
        self.linear, self.shift = linear, shift

    def forward(self, inputs):
        assert float(inputs.sum()) > -1e9
        with torch.autocast("cpu", enabled=False):
            logits = self.linear(inputs)
        is_bright = inputs.amax((1, 2, 3)) > 0.9
        changed = torch.where(is_bright[:, None], logits + self.shift, logits)
        return changed if torch.is_autocast_enabled("cpu") else logits


@pytest.fixture
def native_bf16(monkeypatch):
    """Let bf16 be tried on every machine; where it is not native it is only slow."""
    monkeypatch.setattr(engine_module, "has_native_bf16", lambda device: True)


def moody(linear, engine_of, shift):
    return engine_of(Moody(linear(gain=4.0), shift))


@pytest.mark.usefixtures("native_bf16")
def test_a_model_that_differs_in_bf16_falls_back_to_fp32(engine_of, linear):
    shift = 20 * torch.eye(10)[3]  # other labels, but only on bright images
    engine = moody(linear, engine_of, shift)
    dark, bright = pixels_of(64) * 0.8, pixels_of(64, seed=1)
    parity = check(engine, dark, bright)
    assert parity.precision == engine.precision == "fp32"
    assert parity.is_fallback and parity.label_agreement == 1
    module = engine.plain[1]
    np.testing.assert_allclose(run(engine, bright), direct(module, bright), atol=1e-5)


@pytest.mark.usefixtures("native_bf16")
@pytest.mark.parametrize("is_calibrated", [True, False])
def test_agreement_and_auc_change_are_what_an_oracle_finds(
    is_calibrated, engine_of, linear, monkeypatch
):
    """bf16 moves the logits of bright images; the first half knows of that, or does not."""
    size = 0.15 if is_calibrated else 1.0
    shift = size * torch.randn(10, generator=torch.Generator().manual_seed(2))
    first, second = pixels_of(40) * 0.8, pixels_of(50, seed=1)
    first[:5] = pixels_of(5, seed=2) if is_calibrated else first[:5]
    labels = [np.random.default_rng(i).integers(0, 10, n) for i, n in enumerate((40, 50))]
    both, truth = torch.cat([first, second]), np.concatenate(labels)
    plain = direct(linear(gain=4.0), both).astype(np.float64)
    bright = both.amax((1, 2, 3)).numpy() > 0.9
    fast = plain + np.where(bright[:, None], shift.numpy(), 0)
    doubt = 2 * np.abs(fast - plain)[:40].max()
    ordered = np.sort(fast, 1)
    is_settled = ordered[:, -1] - ordered[:, -2] <= doubt
    fast[is_settled] = plain[is_settled]
    is_equal = fast.argmax(1) == plain.argmax(1)

    def auc(logits):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return roc_auc_score(np.arange(90) < 40, -np.log(p[np.arange(90), truth]))

    found = []
    compare = parity.compare
    monkeypatch.setattr(
        engine_module, "compare", lambda *given: found.append(compare(*given)) or found[-1]
    )
    moody(linear, engine_of, shift).check_parity(first, second, *labels)
    assert found[0].precision == "bf16+fp32" and found[0].n == 90
    assert found[0].label_agreement == pytest.approx(is_equal.mean())
    assert found[0].auc_change == pytest.approx(abs(auc(fast) - auc(plain)), abs=1e-9)
    assert found[0].auc_change > 0
    assert is_settled.any() and is_equal.all() if is_calibrated else not is_equal.all()


def test_the_error_of_the_auc_change_is_that_of_a_bootstrap():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400)
    plain = rng.normal(size=(400, 10)).astype(np.float32)
    fast = plain + rng.normal(size=plain.shape).astype(np.float32) * 0.3
    change, error = parity._auc_change(plain, fast, labels, 200)
    draws = []
    for _ in range(400):
        rows = np.concatenate([rng.integers(0, 200, 200), rng.integers(200, 400, 200)])
        wins = [parity._wins(logits[rows], labels[rows], 200).mean() for logits in (fast, plain)]
        draws.append(wins[0] - wins[1])
    assert error == pytest.approx(np.std(draws), rel=0.15)
    assert change == pytest.approx(abs(np.mean(draws)), abs=3 * error / 20 + 0.002)


@pytest.mark.usefixtures("native_bf16")
def test_an_auc_that_moves_more_than_chance_is_a_fallback(engine_of, linear):
    """Labels stay the same, losses of one half do not: only the AUC can tell."""

    class Colder(Moody):
        def forward(self, inputs):
            logits = super().forward(inputs)
            is_bright = inputs.amax((1, 2, 3)) > 0.9
            if torch.is_autocast_enabled("cpu"):
                return torch.where(is_bright[:, None], logits / 4, logits)
            return logits

    colder = engine_of(Colder(linear(gain=40.0), 0.0))
    dark, bright = pixels_of(100) * 0.8, pixels_of(100, seed=1)
    parity = check(colder, dark, bright)
    assert parity.precision == "fp32" and parity.is_fallback
    assert not check(moody(linear, engine_of, 0.0), dark, bright).is_fallback


class Turning(nn.Module):
    """Turns its answers around from the second call on; a traced graph never does."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.n_calls = linear, 0

    def forward(self, inputs):
        self.n_calls += 1
        return self.linear(inputs) * (1 if self.n_calls < 3 else -1)


def test_a_fast_path_that_differs_on_the_data_falls_back_to_plain(engine_of, linear, caplog):
    engine = engine_of(Turning(linear(gain=4.0)))
    assert engine.precision == "fp32"  # noise did not tell
    run(engine, pixels_of(2))
    with torch.inference_mode():
        engine.plain(pixels_of(2))
    parity = check(engine, pixels_of(30), pixels_of(30, seed=1))
    assert parity.precision == engine.precision == "fp32-plain" and parity.is_fallback
    assert engine.fast is engine.plain and "falling back to plain fp32" in caplog.text


def test_without_bf16_folded_fp32_is_checked_and_kept(engine_of, shaken, monkeypatch):
    monkeypatch.setattr(engine_module, "has_native_bf16", lambda device: False)
    torch.manual_seed(0)
    engine = engine_of(shaken(NETS["own-b"]()), side=32)
    parity = check(engine, pixels_of(16, side=32), pixels_of(16, side=32, seed=1))
    assert parity.precision == "fp32" and not parity.is_fallback
    assert parity.label_agreement == 1 and parity.auc_change <= 1 / 256 and parity.n == 32


@pytest.mark.usefixtures("native_bf16")
def test_close_calls_of_bf16_are_settled_in_fp32(engine_of, linear):
    pixels, module = pixels_of(4000), linear(gain=4.0)
    with torch.inference_mode():
        truth = module(pixels).numpy()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            raw = module(pixels).float().numpy()
    is_flipped = raw.argmax(1) != truth.argmax(1)
    assert is_flipped.sum() >= 5  # bf16 alone is not good enough
    engine = engine_of(module)
    np.testing.assert_allclose(run(engine, pixels), truth, atol=1e-5)  # no bf16 before the check
    parity = check(engine, pixels[:128], pixels[128:256])
    assert parity.precision == "bf16+fp32" and not parity.is_fallback
    mixed = run(engine, pixels)
    assert (mixed.argmax(1) == truth.argmax(1)).mean() >= 0.999
    is_settled = np.abs(mixed - truth).max(1) < 1e-5
    assert is_settled[is_flipped].mean() > 0.5 and 0 < is_settled.mean() < 0.25
    np.testing.assert_allclose(mixed[~is_settled], raw[~is_settled], atol=0.05)


@pytest.mark.usefixtures("native_bf16")
def test_bf16_is_left_where_it_saves_nothing(engine_of, linear):
    module = linear(gain=0.3)
    nn.init.constant_(module[1].bias, 100.0)  # bf16 has steps of a half there
    engine = engine_of(module)
    parity = check(engine, pixels_of(32), pixels_of(32, seed=1))
    assert parity.precision == "fp32" and not parity.is_fallback


# batches and memory


@pytest.mark.parametrize("side", [32, 64])
def test_the_batch_depends_on_the_size_of_the_input_alone(side, engine_of):
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    sizes = {engine_of(module, side=side).batch_size for _ in range(3)}
    assert sizes == {{32: 64, 64: 16}[side]}


@pytest.mark.parametrize("size", [1, 7, 64])
def test_outputs_do_not_depend_on_the_batch(size, engine_of, shaken):
    torch.manual_seed(0)
    engine = engine_of(shaken(NETS["own-b"]()), side=32)
    pixels = pixels_of(70, side=32)
    expected = run(engine, pixels)
    engine.batch_size = size
    np.testing.assert_allclose(run(engine, pixels), expected, atol=2e-5)


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    RuntimeError("std::bad_alloc"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
)


class Narrow(nn.Module):
    """Has memory for ``limit`` images; cannot be traced."""

    def __init__(self, linear, limit, error):
        super().__init__()
        self.linear, self.limit, self.error = linear, limit, error

    def forward(self, inputs):
        if len(inputs) > self.limit:
            raise self.error
        return self.linear(inputs)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20])
def test_batches_are_halved_until_they_fit(error, engine_of, linear, passes):
    engine = engine_of(Narrow(linear(), 10, error))
    sizes = passes(engine)
    pixels = pixels_of(100)
    np.testing.assert_allclose(run(engine, pixels), direct(linear(), pixels), atol=1e-5)
    assert engine.batch_size == 8
    assert sizes[:4] == [64, 32, 16, 8] and max(sizes[sizes.index(8) :]) <= 32
    sizes.clear()
    run(engine, pixels)
    assert max(sizes) == 8  # once lowered, it stays


def test_parity_is_checked_in_batches_that_fit(engine_of, linear):
    engine = engine_of(Narrow(linear(gain=4.0), 10, OUT_OF_MEMORY[0]))
    parity = check(engine, pixels_of(40), pixels_of(40, seed=1))
    assert parity.label_agreement == 1 and engine.batch_size <= 10


def test_one_image_that_does_not_fit_is_an_error(engine_of, linear):
    engine = engine_of(Narrow(linear(), 0, torch.OutOfMemoryError("out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        run(engine, pixels_of(3))


def test_other_errors_are_not_taken_for_a_lack_of_memory(engine_of, linear, passes):
    engine = engine_of(Narrow(linear(), 10, RuntimeError("shapes cannot be multiplied")))
    sizes = passes(engine)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run(engine, pixels_of(100))
    assert sizes == [64]


LIMITED = """
import resource, numpy as np, torch
from torch import nn
from securitynet.catalogue.cards import InputSpec
from securitynet.targets.engine import Engine
torch.manual_seed(0)
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 64, 3, padding=1), nn.Linear(64, 10)
    def forward(self, x):
        return self.linear(torch.sin(self.conv(x) * 3).mean((2, 3)))
engine = Engine(Wide(), InputSpec(3, 32, 32), torch.device("cpu"))
pixels = torch.rand(2048, 3, 32, 32)
before = engine.run(lambda i, j: pixels[i:j], 2048)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
engine.batch_size = 2048
after = engine.run(lambda i, j: pixels[i:j], 2048)
print(engine.batch_size, np.abs(before - after).max() < 1e-5)
"""


@pytest.mark.long
def test_a_real_limit_of_memory_is_survived():
    """2,048 images need 512 MB an activation; the process may take 256 MB more than it has."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    size, is_same = done.stdout.split()
    assert int(size) < 2048 and is_same == "True", done.stderr


def test_fp32_is_not_tf32_and_the_setting_is_given_back(engine_of, linear, monkeypatch):
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, inputs):
            seen.append(torch.backends.cudnn.allow_tf32 and float(inputs.sum()) > -1)
            return self.linear(inputs)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    run(engine_of(Watching()), pixels_of(3))
    assert seen and not any(seen) and torch.backends.cudnn.allow_tf32


# outputs of other forms


def test_tuples_and_dicts_hold_logits():
    tensor = torch.zeros(2, 3)
    for output in (tensor, (tensor, None), [tensor], {"logits": tensor}, {"out": tensor, "aux": 1}):
        assert as_logits(output) is tensor
    assert as_logits({"features": None, "logits": tensor}) is tensor
    for output in (None, (), {}, {"logits": None}, "text", 3.0):
        with pytest.raises(RefusedError, match="not logits"):
            as_logits(output)


class Softmax(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, inputs):
        return functional.softmax(self.linear(inputs), 1)


def test_posteriors_become_logits(engine_of, linear):
    module = linear(gain=3.0)
    engine = engine_of(Softmax(module))
    pixels = pixels_of(20)
    expected = torch.log_softmax(torch.from_numpy(direct(module, pixels)), 1).numpy()
    assert engine.gives_posteriors
    np.testing.assert_allclose(run(engine, pixels), expected, atol=1e-4)
    with torch.inference_mode():
        np.testing.assert_allclose(engine.plain(pixels).numpy(), expected, atol=1e-4)


def test_posteriors_that_underflow_stay_finite(engine_of, linear):
    engine = engine_of(Softmax(linear(gain=300.0)))
    logits = run(engine, pixels_of(20))
    assert np.isfinite(logits).all() and logits.min() < -80


def test_logits_are_not_taken_for_posteriors(engine_of, linear):
    assert not engine_of(linear()).gives_posteriors
    sigmoid = nn.Sequential(linear(), nn.Sigmoid())
    assert not engine_of(sigmoid).gives_posteriors
