"""A network in a Python file: a module of parts, or a function of tensors."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from networks.small_networks import NETWORK
from safetensors.numpy import load_file, save_file

from cimm_jax.errors import InputError
from cimm_jax.networks import config_of, definition_of, functional
from cimm_jax.networks.weights import export_weights, load_weights

PREPROCESS = '{"size": 8, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'

MODULE = f"""
import jax
from flax import nnx

class Convolved(nnx.Module):
    def __init__(self, inputs, outputs, rngs):
        self.conv = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, rngs=rngs)

    def __call__(self, x, training):
        return jax.nn.relu(self.norm(self.conv(x), use_running_average=not training))

class Pooled(nnx.Module):
    def __call__(self, x, training):
        return x.mean((1, 2))

class Mine(nnx.Module):
    preprocess = {PREPROCESS}

    def __init__(self, rngs):
        self.parts = nnx.Dict(second=Convolved(3, 4, rngs), first=Convolved(4, 6, rngs), pool=Pooled())
        self.head = nnx.Linear(6, 5, rngs=rngs)
"""

FUNCTION = f"""
import jax
import jax.numpy as jnp

def features(params, x):
    y = jax.nn.relu(x.reshape(len(x), -1) @ params["first.weight"] + params["first.bias"][None])
    return jnp.tanh(y @ params["second"])

features.preprocess = {PREPROCESS}
"""


@pytest.fixture
def own(tmp_path):
    """Writes a file and says what the network in it is called."""

    def write(text, name):
        (tmp_path / "mine.py").write_text(text)
        return f"{tmp_path}/mine.py:{name}"

    return write


@pytest.fixture
def tensors(rng, tmp_path):
    found = {
        name: rng.normal(size=shape).astype(np.float32) / 8
        for name, shape in {"first.weight": (192, 6), "first.bias": (6,), "second": (6, 16)}.items()
    }
    save_file(found, tmp_path / "w.safetensors")
    return found


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)


def test_a_module_is_a_network_with_cuts_and_a_head(own, tmp_path, images):
    name = own(MODULE, "Mine")
    save_file({}, tmp_path / "empty.safetensors")
    config = config_of(name, tmp_path / "empty.safetensors")
    assert (config.classes, config.features, config.preprocess.size, config.input_shape) == (5, 6, 8, (8, 8, 3))
    model = config.build(nnx.Rngs(3))
    assert model.cuts == ("second", "first", "pool", "features"), "in the order in which they were given"
    path = export_weights(model, tmp_path / "w.safetensors")
    assert {"parts.second.conv.kernel", "parts.first.norm.mean", "head.bias"} <= load_file(path).keys()
    again = load_weights(config_of(name, path), path)
    x = config.preprocess(config.preprocess.fit(images[0], 8)[None])
    parts = functional.split(again, "first")

    @jax.jit
    def both(parts, whole, x):
        tail = functional.tail(parts, functional.trunk(parts, x, "first"), "first")
        return functional.merge(parts).head(tail), functional.logits(whole, x)

    np.testing.assert_allclose(*both(parts, functional.split(model), x), rtol=1e-5)


def test_a_function_of_tensors_is_a_network_without_a_head(own, tmp_path, tensors, images):
    name, weights = own(FUNCTION, "features"), tmp_path / "w.safetensors"
    config = config_of(name, weights)
    assert (config.classes, config.features) == (0, 16)
    model = load_weights(config, weights)
    assert model.cuts == ("function", "features")
    got = model.features(config.preprocess(images))
    x = (images.reshape(3, -1) / 255 - 0.5) / 0.25
    hidden = np.maximum(x @ tensors["first.weight"] + tensors["first.bias"], 0)
    np.testing.assert_allclose(got, np.tanh(hidden @ tensors["second"]), atol=1e-5)
    exported = load_file(export_weights(model, tmp_path / "again.safetensors"))
    assert exported.keys() == tensors.keys()
    assert all(np.array_equal(exported[name], array) for name, array in tensors.items())
    random = config.build(nnx.Rngs(0)).features(config.preprocess(images))
    assert random.shape == got.shape
    assert not np.allclose(random, got)


def test_the_definition_of_a_file_is_its_content(own, tmp_path, tensors):
    checksums = []
    for text in (FUNCTION, FUNCTION.replace("tanh", "sin")):
        name = own(text, "features")
        version = config_of(name, tmp_path / "w.safetensors").version
        assert definition_of(name) == version
        checksums.append(version)
    assert len({*checksums}) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in checksums)


def test_a_configuration_in_a_file_is_taken_as_it_is(own, tmp_path, tensors):
    name = own("from networks.small_networks import NETWORK as mine", "mine")
    assert config_of(name, tmp_path / "w.safetensors") is NETWORK


DROPPED = """
class Dropped(nnx.Module):
    def __init__(self):
        self.inner = nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(0))

    def __call__(self, x, training):
        return x
"""


def programs_of_the_docs():
    document = Path(__file__).parents[2] / "docs" / "networks.md"
    return re.findall(r"```python\n(.*?)```", document.read_text(), flags=re.DOTALL)


def test_the_networks_in_the_docs_are_some(own, tmp_path, standard_promotion):
    module, function = programs_of_the_docs()
    save_file({"first.weight": np.ones((192, 6), np.float32)}, tmp_path / "w.safetensors")
    config = config_of(own(module, "Mine"), tmp_path / "w.safetensors")
    assert (config.classes, config.features, config.preprocess.size) == (10, 32, 32)
    shapes = {"first.weight": (192, 6), "first.bias": (6,), "second.weight": (6, 4)}
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, tmp_path / "w.safetensors")
    config = config_of(own(function, "features"), tmp_path / "w.safetensors")
    assert (config.classes, config.features, config.preprocess.size) == (0, 4, 8)


WRONG = [
    ("three = 3", "three", r"needs to be a configuration of a network, .* and is int"),
    ("def f(a, b, c): pass\nf.preprocess = {}", "f", r"has the arguments a, b, c; it needs to be"),
    (
        "def f(params, x): return x",
        "f",
        r'does not say what images go through first; give it an attribute preprocess, .*"size"',
    ),
    (
        f"def f(params, x): return x\nf.preprocess = {PREPROCESS}",
        "f",
        r"makes float32 of shape \(2, 8, 8, 3\) of two images",
    ),
    (
        f"def f(params, x): return params['none']\nf.preprocess = {PREPROCESS}",
        "f",
        r"cannot be used on images .*KeyError: 'none'",
    ),
    (
        "def f(params, x): return x\nf.preprocess = {'size': 8, 'image_mean': 1}",
        "f",
        r"preprocess of .* has 1 as image_mean",
    ),
    (MODULE.replace("self.parts =", "self.others ="), "Mine", r"makes Mine without parts"),
    (MODULE.replace("nnx.Linear(6, 5", "nnx.Linear(7, 5"), "Mine", r"has a head on 7 features, and its parts make 6"),
    (
        MODULE.replace("self.head = nnx.Linear(6, 5", "self.head = nnx.Conv(6, 5, (1, 1)"),
        "Mine",
        r"has Conv as its head",
    ),
    (MODULE.replace("(6, 5,", "(6, 5, use_bias=False,"), "Mine", r"has a head on 6 features without a bias"),
    (MODULE.replace("pool=Pooled()", "pool=Pooled(), drop=Dropped()") + DROPPED, "Mine", r"leave out dropout"),
]


@pytest.mark.parametrize(("text", "name", "told"), WRONG)
def test_what_is_no_network_is_refused_in_one_line(own, tmp_path, tensors, text, name, told):
    with pytest.raises(InputError, match=told) as caught:
        config_of(own(text, name), tmp_path / "w.safetensors")
    assert str(caught.value).startswith("model: ")


def test_tensors_of_whole_numbers_are_refused(own, tmp_path, tensors):
    save_file({**tensors, "steps": np.zeros(1, np.int64)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="weights: have tensors that are no floating-point numbers: steps"):
        config_of(own(FUNCTION, "features"), tmp_path / "w.safetensors")
