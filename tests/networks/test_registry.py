import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from networks.small_networks import NETWORK

from cimm_jax import plugins
from cimm_jax.errors import InputError
from cimm_jax.networks import NETWORKS, build, by_name, network_names

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet20_cifar10": 269_722,
    "resnet56_cifar10": 853_018,
    "vit_b16": 86_567_656,
    "vit_tiny": 5_362_762,
    "vit_mini_cifar10": 460_906,
    "efficientnet_lite0": 4_652_008,
    "mlp_digits": 64 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32 + 330,
    "minilm_l6": 22_713_216 - 384 * 385,  # without the pooler
    "wordllama": 32_000 * 256,
    "linear": 784 * 784 + 7850,
}
FEATURES = {
    **{"resnet18": 512, "resnet20_cifar10": 64, "vit_b16": 768, "vit_tiny": 192, "efficientnet_lite0": 1280},
    **{"minilm_l6": 384, "wordllama": 256},
}


def shapes(name):
    return nnx.eval_shape(lambda: build(name, jax.random.key(0)))


def test_every_name_has_its_published_number_of_parameters():
    assert PARAMETERS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_its_size_and_its_key_maps_name_each_array_once(name):
    model, config = shapes(name), by_name(name)
    state = nnx.state(model)
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == PARAMETERS[name]
    assert model.head.in_features == FEATURES.get(name, model.head.in_features)
    assert model.head.out_features == config.classes
    arrays = sorted(path for path, leaf in nnx.to_flat_state(state) if leaf.size)  # a head without classes has none
    maps = {key_map.name: key_map.entries(config) for key_map in config.key_maps}
    assert config.names in maps
    assert len(maps) == len(config.key_maps), "each publisher once"
    for entries in maps.values():
        assert sorted(path for entry in entries for path in entry.paths) == arrays
        assert len({entry.key for entry in entries}) == len(entries)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"model: 'resnet50' is unknown; choose one of resnet18, resnet34, .*linear"):
        by_name("resnet50")
    with pytest.raises(InputError, match="model: 'resnet50' is unknown"):
        build("resnet50", jax.random.key(0))


def test_a_configuration_is_built_as_its_name_is():
    by_its_name, by_itself = (build(it, jax.random.key(1)) for it in ("linear", by_name("linear")))
    assert by_its_name.config == by_itself.config
    np.testing.assert_array_equal(by_its_name.head.kernel[...], by_itself.head.kernel[...])


def test_a_network_is_one_line_in_the_registry(monkeypatch):
    monkeypatch.setitem(NETWORKS, "mine", "networks.small_networks:NETWORK")
    assert by_name("mine") == NETWORK


def test_a_package_adds_networks_and_no_file_does(monkeypatch):
    added = {"theirs": NETWORK, "wrong": 3}
    monkeypatch.setattr(plugins, "names", lambda group: tuple(added))
    monkeypatch.setattr(plugins, "find", lambda group, text, argument, *, files: None if files else added.get(text))
    assert network_names() == (*NETWORKS, "theirs", "wrong")
    assert by_name("theirs") is NETWORK
    with pytest.raises(InputError, match=r"^model: wrong needs to be a configuration of a network, and is int$"):
        by_name("wrong")
    with pytest.raises(InputError, match="linear, theirs, wrong"):
        by_name("x.py:NETWORK")


@pytest.mark.parametrize("module", ["cimm_jax", "cimm_jax.networks"])
def test_names_come_without_flax(module):
    code = f"import sys, {module}; sys.exit('flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
