"""Every layer against the network it was written after; `make_golden.py` says where the numbers come from."""

from pathlib import Path

import jax
import numpy as np
import pytest
from networks.small_networks import SMALL
from safetensors.numpy import load_file, save_file

from cimm_jax.networks import functional
from cimm_jax.networks.weights import load_weights

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
TOLERANCE = 1e-4


def distance(got, expected):
    assert got.shape == expected.shape
    return np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module", params=NAMES)
def golden(request, tmp_path_factory):
    tensors = load_file(GOLDEN / f"{request.param}.safetensors")
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({key.removeprefix("weights/"): tensors[key] for key in tensors if key.startswith("weights/")}, path)
    return load_weights(SMALL[request.param], path), tensors


def within_tolerance(names):
    return dict.fromkeys(names, pytest.approx(0, abs=TOLERANCE))


def outputs(tensors):
    return {key.removeprefix("output/"): value for key, value in tensors.items() if key.startswith("output/")}


def test_there_is_a_golden_file_for_every_architecture_with_published_weights():
    assert set(NAMES) == SMALL.keys() - {"linear"}


def test_every_cut_has_a_golden_output(golden):
    model, tensors = golden
    assert outputs(tensors).keys() == set(model.cuts[1:])


def test_every_part_gives_what_the_original_gives(golden):
    model, tensors = golden
    expected = outputs(tensors)
    arrays = {model.cuts[0]: tensors["input"]} | expected

    @jax.jit
    def by_part(arrays):
        pairs = zip(model.cuts[:-1], model.cuts[1:], strict=True)
        return {following: model.parts[name](arrays[name], False) for name, following in pairs}

    got = by_part(arrays)
    assert {cut: distance(got[cut], expected[cut]) for cut in expected} == within_tolerance(expected)


def test_every_trunk_and_the_logits_are_those_of_the_original(golden):
    model, tensors = golden
    expected = outputs(tensors) | {"logits": tensors["logits"]}

    @jax.jit
    def everything(parts, x):
        trunks = {cut: functional.trunk(parts, x, cut) for cut in model.cuts[1:]}
        return trunks | {"logits": functional.logits(parts, x)}

    got = everything(functional.split(model), tensors["input"])
    assert {name: distance(got[name], expected[name]) for name in expected} == within_tolerance(expected)
