"""Networks of timm by what their `config.json` has as `architecture`: sizes that it knows and the file does not say."""

import re
from collections.abc import Mapping

from cimm_jax.data.tensor_file import Described
from cimm_jax.errors import InputError
from cimm_jax.networks.backbone import Config
from cimm_jax.networks.hub_preprocess import timm_preprocess
from cimm_jax.networks.json_fields import Fields
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.resnet import ResNetConfig
from cimm_jax.networks.tensor_names import outputs_of
from cimm_jax.networks.vit import VitConfig

__all__ = ["KNOWN", "timm_network"]

_RESNETS = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet26": (True, (2, 2, 2, 2)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
"""Whether blocks are bottlenecks, and their number in each stage."""

_VITS = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, depth and heads."""

_WIDTHS = (64, 128, 256, 512)
_VIT = re.compile(r"(?:vit|deit)_(tiny|small|base|large)_patch(\d{1,2})_(\d{2,3})")

KNOWN = (*_RESNETS, "vit_SIZE_patchN_N", "deit_SIZE_patchN_N")
"""What is known, SIZE being tiny, small, base or large; a tag behind a dot, such as .a1_in1k, makes no difference."""


def timm_network(fields: Fields, tensors: Mapping[str, Described]) -> Config:
    """The configuration of a checkpoint.

    Args:
      fields: of config.json, with `architecture` and `pretrained_cfg`.
      tensors: what the weights hold.

    Raises:
      InputError: if the architecture is unknown or changed by `model_args`, or images are not square.
    """
    name = str(fields.raw("architecture")).partition(".")[0]
    if fields.raw("model_args"):
        raise fields.unfit("model_args", "nothing: networks with other sizes than their name says are not read")
    preprocess = timm_preprocess(fields.inner("pretrained_cfg"))
    if name in _RESNETS:
        bottleneck, blocks = _RESNETS[name]
        widths = tuple((4 if bottleneck else 1) * width for width in _WIDTHS)
        classes = outputs_of(tensors, ("fc.weight",))
        return ResNetConfig(
            blocks, widths, classes, stem=64, bottleneck=bottleneck, preprocess=preprocess, names="timm"
        )
    if (found := _VIT.fullmatch(name)) is not None:
        return _vit(found, preprocess, tensors)
    raise InputError(
        f"model: {fields.where} is of the architecture {name[:100]!r}, which is unknown; of timm, known are {', '.join(KNOWN)}"
    )


def _vit(name: re.Match[str], preprocess: Preprocess, tensors: Mapping[str, Described]) -> VitConfig:
    width, depth, heads = _VITS[name[1]]
    patch, image = int(name[2]), int(name[3])
    if image != preprocess.size or not 1 <= patch <= image:
        raise InputError(f"model: {name[0]} takes images of {image} pixels, and pretrained_cfg makes {preprocess.size}")
    classes = outputs_of(tensors, ("head.weight",))
    return VitConfig(image, patch, width, depth, heads, 4 * width, classes, 1e-6, preprocess, names="timm")
