"""Feature extractors in Flax NNX, each cut into a frozen trunk and a trainable tail, with published weights.

A new one is one file with a configuration that builds a `Backbone`, one line in `BY_NAME`, and its key maps.
"""

import jax
from flax import nnx

from cimm_jax.errors import InputError
from cimm_jax.models import functional
from cimm_jax.models.backbone import Backbone, Config
from cimm_jax.models.efficientnet import EFFICIENTNET_LITE0, EfficientNetConfig
from cimm_jax.models.linear import LinearConfig
from cimm_jax.models.preprocess import Preprocess
from cimm_jax.models.resnet import RESNET18, RESNET20_CIFAR10, RESNET34, RESNET56_CIFAR10, ResNetConfig
from cimm_jax.models.vit import VIT_B16, VIT_MINI_CIFAR10, VIT_TINY, VitConfig

BY_NAME: dict[str, Config] = {
    "resnet18": RESNET18,
    "resnet34": RESNET34,
    "resnet20_cifar10": RESNET20_CIFAR10,
    "resnet56_cifar10": RESNET56_CIFAR10,
    "vit_b16": VIT_B16,
    "vit_tiny": VIT_TINY,
    "vit_mini_cifar10": VIT_MINI_CIFAR10,
    "efficientnet_lite0": EFFICIENTNET_LITE0,
    "linear": LinearConfig(),
}
"""Every configuration by the name it is asked for."""


def by_name(name: str) -> Config:
    """The configuration; raises `InputError` with the known names if there is none."""
    if name not in BY_NAME:
        raise InputError(f"model: {name!r} is unknown; choose one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


def build(config: Config | str, key: jax.Array) -> Backbone:
    """The network with fresh float32 parameters, by its configuration or name; raises as `by_name`."""
    return (by_name(config) if isinstance(config, str) else config).build(nnx.Rngs(key))


__all__ = [
    "BY_NAME",
    "Backbone",
    "Config",
    "EfficientNetConfig",
    "LinearConfig",
    "Preprocess",
    "ResNetConfig",
    "VitConfig",
    "build",
    "by_name",
    "functional",
]
