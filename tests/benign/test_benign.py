"""What people publish comes through the door, bit by bit as a trusted load has it."""

import copy
import importlib.util
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from securitynet.targets.names import fit_names
from securitynet.weights.door import open_checkpoint
from securitynet.weights.strict import load_into

SPEC = importlib.util.spec_from_file_location(
    "benign_corpus", Path(__file__).with_name("corpus.py")
)
corpus = importlib.util.module_from_spec(SPEC)
sys.modules["benign_corpus"] = corpus
SPEC.loader.exec_module(corpus)
CASES = {case.name: case for case in corpus.cases()}


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].contiguous().numpy(force=True).tobytes()
        == right[name].contiguous().numpy(force=True).tobytes()
        if left[name].dtype != torch.bfloat16
        else torch.equal(left[name].view(torch.int16), right[name].view(torch.int16))
        for name in left
    )


def original(path, case):
    if case.container.member is None:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(case.container.member)


def fresh(module):
    """Return the same network with none of its weights."""
    module = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    return module


def truth(path, case):
    if case.container is corpus.SAFETENSORS:
        return load_file(path)
    return case.trusted(original(path, case))


@pytest.mark.parametrize("name", CASES)
def test_a_benign_checkpoint_comes_through_bit_equal(name, tmp_path):
    case = CASES[name]
    path = tmp_path / f"model{case.container.suffix}"
    case.write(path)
    card = replace(case.card, weights=case.weights(path))
    opened = open_checkpoint(card.weights, folder=None, where=name)
    found, expected = load_file(opened.path), truth(path, case)
    if "n_averaged" in expected:
        expected.pop("n_averaged")
        assert opened.notes == ("left out: n_averaged",)
    assert same(found, expected)
    module = fresh(case.module)
    load_into(module, opened, where=name, rename=partial(fit_names, card=card))
    wanted = case.module.state_dict()
    kept = {key: value for key, value in module.state_dict().items() if key in wanted}
    check_loaded(kept, wanted, case.wrapper.dtype, expected)
    assert opened.prefix == case.wrapper.prefix


def check_loaded(found, wanted, dtype, saved):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if name.endswith("num_batches_tracked") and not any(key.endswith(name) for key in saved):
            continue
        is_real = dtype is not None and tensor.is_floating_point()
        expected = tensor.to(dtype).to(tensor.dtype) if is_real else tensor
        assert torch.equal(found[name], expected), name


def test_the_corpus_covers_what_is_published():
    assert len(CASES) == len(corpus.cases()) >= 130
    providers = Counter(case.provider for case in CASES.values())
    assert providers.keys() == {
        "pytorchcv", "timm", "torchvision", "robustbench", "ivrl", "community", "medmnist",
    }  # fmt: skip
    networks = {(case.provider, case.index) for case in CASES.values()}
    assert len(networks) >= 30
    containers = {id(case.container) for case in CASES.values()}
    assert len(containers) == len(corpus.CONTAINERS) + 1
