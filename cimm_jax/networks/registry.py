"""Every network by name: where its configuration is. A new one is one file with a configuration, and one line here."""

from importlib import import_module
from typing import TYPE_CHECKING

from cimm_jax import plugins
from cimm_jax.errors import InputError

if TYPE_CHECKING:
    import jax

    from cimm_jax.networks.backbone import Backbone, Config

__all__ = ["GROUP", "NETWORKS", "build", "by_name", "network_names"]

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
            raise InputError(f"model: {name!r} is unknown; choose one of {', '.join(network_names())}")
        if not hasattr(added, "build"):
            raise InputError(f"model: {name} needs to be a configuration of a network, and is {type(added).__name__}")
        return added
    module, _, attribute = NETWORKS[name].partition(":")
    return getattr(import_module(module), attribute)


def build(config: "Config | str", key: "jax.Array") -> "Backbone":
    """The network with fresh float32 parameters, by its configuration or name; raises as `by_name`."""
    from flax import nnx

    return (by_name(config) if isinstance(config, str) else config).build(nnx.Rngs(key))
