"""Every network by name: where its configuration is. A new one is one file with a configuration, and one line here.

People name others by a checkpoint folder, or by a file of their own.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cimm_jax import plugins
from cimm_jax.errors import InputError
from cimm_jax.networks.weight_files import open_checkpoint

if TYPE_CHECKING:
    import jax

    from cimm_jax.networks.backbone import Backbone, Config

__all__ = [
    "GROUP",
    "NETWORKS",
    "build",
    "by_name",
    "check_model",
    "checkpoint_folder",
    "config_of",
    "definition_of",
    "network_names",
]

NETWORKS = {
    "resnet18": "cimm_jax.networks.resnet:RESNET18",
    "resnet34": "cimm_jax.networks.resnet:RESNET34",
    "resnet20_cifar10": "cimm_jax.networks.resnet:RESNET20_CIFAR10",
    "resnet56_cifar10": "cimm_jax.networks.resnet:RESNET56_CIFAR10",
    "vit_b16": "cimm_jax.networks.vit:VIT_B16",
    "vit_tiny": "cimm_jax.networks.vit:VIT_TINY",
    "vit_mini_cifar10": "cimm_jax.networks.vit:VIT_MINI_CIFAR10",
    "efficientnet_lite0": "cimm_jax.networks.efficientnet:EFFICIENTNET_LITE0",
    "mlp_digits": "cimm_jax.networks.perceptron:MLP_DIGITS",
    "minilm_l6": "cimm_jax.networks.bert:MINILM_L6",
    "wordllama": "cimm_jax.networks.word_vectors:WORDLLAMA",
    "linear": "cimm_jax.networks.linear:MNIST_EXTRACTOR",
}
"""Configurations by the name they are asked for, as entry points are written; flax is imported with the first of them."""


GROUP = "cimm_jax.networks"
"""Entry points under which packages add configurations."""


def network_names() -> tuple[str, ...]:
    """Every network that can be asked for by name: those of the house, and of packages that are installed."""
    return tuple(dict.fromkeys((*NETWORKS, *plugins.names(GROUP))))


def by_name(name: str) -> "Config":
    """The configuration.

    Raises:
      InputError: with the known names if there is none, or if a package that has it cannot be used.
    """
    if name not in NETWORKS:
        added = plugins.find(GROUP, name, "model", files=False)
        if added is None:
            raise _unknown(name)
        if not hasattr(added, "build"):
            raise InputError(f"model: {name} needs to be a configuration of a network, and is {type(added).__name__}")
        return added
    module, _, attribute = NETWORKS[name].partition(":")
    return getattr(import_module(module), attribute)


def check_model(model: str) -> None:
    """Raises `InputError` unless the text could be what a network is named by; opens nothing."""
    if model not in network_names() and not plugins.is_file(model) and checkpoint_folder(model) is None:
        raise _unknown(model)


def checkpoint_folder(model: str) -> Path | None:
    """The folder that a model is named by; None for a name, which goes before a folder of the same name, and for a file."""
    is_folder = model not in network_names() and not plugins.is_file(model) and os.path.isdir(model)
    return Path(model) if is_folder else None


def config_of(model: str, weights: Path) -> "Config":
    """The configuration of a network that people name, and whose weights they have.

    Args:
      model: a name, which goes before a folder of the same name; a checkpoint folder (`hub_folder`); or `FILE.py:NAME`
        (`own_network`). The file is run: it must not be named by a record that anybody may have written.
      weights: of it.

    Raises:
      InputError: as `by_name`, `hub_folder.hub_config` and `own_network.own_config`.
    """
    check_model(model)
    if model in NETWORKS:
        return by_name(model)
    if (folder := checkpoint_folder(model)) is not None:
        from cimm_jax.networks.hub_folder import hub_config

        return hub_config(folder, weights)
    from cimm_jax.networks.own_network import own_config

    with open_checkpoint(weights) as file:
        return own_config(GROUP, model, file.tensors)


def definition_of(model: str) -> str | None:
    """Checksum of the files that say what the network is, after `config_of`; None if a package does, whose version is known."""
    if plugins.is_file(model):
        return plugins.loaded().get(model)
    if (folder := checkpoint_folder(model)) is None:
        return None
    from cimm_jax.networks.hub_folder import definition_checksum

    return definition_checksum(folder)


def build(config: "Config | str", key: "jax.Array") -> "Backbone":
    """The network with fresh float32 parameters, by its configuration or name; raises as `by_name`."""
    from flax import nnx

    return (by_name(config) if isinstance(config, str) else config).build(nnx.Rngs(key))


def _unknown(name: str) -> InputError:
    return InputError(
        f"model: {name!r} is unknown; choose one of {', '.join(network_names())}, or give a checkpoint folder, which has "
        "config.json, or FILE.py:NAME"
    )
