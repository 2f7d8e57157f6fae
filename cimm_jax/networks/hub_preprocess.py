"""What images go through before a network, as `preprocessor_config.json` of the transformers library says it.

    resize, cut out the centre, times rescale_factor, minus mean, over deviation

All but the first two are one affine map, (pixel - mean') / deviation', here on the scale 0..255.
"""

from dataclasses import replace
from typing import NamedTuple

from cimm_jax.data.image_fitting import INTERPOLATIONS, Fitting
from cimm_jax.errors import InputError
from cimm_jax.networks.json_fields import MOST_PIXELS, Fields
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["preprocess_of", "timm_preprocess"]

_CHANNELS = 3
_UNCROPPED_FROM = 384
"""ConvNeXt's processor makes images of this size or larger square, without a crop."""

_CROP_SHARE = 224 / 256

_SMALLEST = 1e-6
"""What pixels are multiplied by, or divided by."""


class _Processor(NamedTuple):
    """What a class of processors does where the file does not say it.

    Attributes:
      square: whether one number as the size is of both sides.
      crops: whether the centre is cut out.
      interpolation: its number in `INTERPOLATIONS`.
    """

    square: bool
    crops: bool
    interpolation: int = 3


_PROCESSORS = {
    "ViT": _Processor(square=True, crops=False, interpolation=2),
    "DeiT": _Processor(square=True, crops=True),
    "EfficientNet": _Processor(square=True, crops=False),
    "ConvNext": _Processor(square=False, crops=False),
    "Bit": _Processor(square=False, crops=True),
    "CLIP": _Processor(square=False, crops=True),
}

_OF_FAMILY = {
    **{"vit": "ViT", "deit": "DeiT", "efficientnet": "EfficientNet", "convnext": "ConvNext", "resnet": "ConvNext"},
    **{"dinov2": "Bit", "clip": "CLIP", "clip_vision_model": "CLIP"},
}
"""Processors of families, for files that do not name theirs."""


def preprocess_of(fields: Fields, family: str) -> Preprocess:
    """What the file says, for three channels.

    Args:
      fields: of preprocessor_config.json.
      family: `model_type` of the network.

    Raises:
      InputError: if it says something that there is not here, such as images that are not square.
    """
    kind = _kind(fields, family)
    size, fitting = _fitting(fields, kind)
    factor = fields.number("rescale_factor", 1 / 255) if fields.flag("do_rescale", True) else 1.0
    mean, deviation = [0.0] * _CHANNELS, [1.0] * _CHANNELS
    if fields.flag("do_normalize", True):
        mean, deviation = (list(fields.numbers(f"image_{what}", _CHANNELS)) for what in ("mean", "std"))
    if kind == "EfficientNet":
        if fields.flag("rescale_offset", False):
            mean = [value + 1 for value in mean]
        if fields.flag("include_top", True):  # divided once more, as the networks were trained
            deviation = [
                value * again for value, again in zip(deviation, fields.numbers("image_std", _CHANNELS), strict=True)
            ]
    if factor < _SMALLEST or min(deviation) < _SMALLEST:
        raise InputError(f"model: {fields.where} divides pixels by zero; look at rescale_factor and image_std")
    return Preprocess(size, tuple(m / factor for m in mean), tuple(s / factor for s in deviation), fitting)


def timm_preprocess(fields: Fields) -> Preprocess:
    """What timm's `pretrained_cfg` says; the centre is cut out where the halved rest, rounded down, begins.

    Raises:
      InputError: as `preprocess_of`.
    """
    sizes = fields.counts("input_size", most=MOST_PIXELS)
    if len(sizes) != 3 or sizes[0] != _CHANNELS or sizes[1] != sizes[2]:
        raise fields.unfit("input_size", "three channels and two sides alike")
    side = _before_crop(fields, sizes[1], 0.875)
    square = fields.word("crop_mode", ("center", "squash"), "center") == "squash"
    interpolation = fields.word("interpolation", INTERPOLATIONS, "bicubic")
    mean, deviation = (fields.numbers(name, _CHANNELS) for name in ("mean", "std"))
    if min(deviation) < _SMALLEST:
        raise fields.unfit("std", f"numbers of at least {_SMALLEST:g}")
    fitting = Fitting(side, square, interpolation)
    return replace(Preprocess.of_unit_pixels(sizes[1], mean, deviation), fitting=fitting)


def _kind(fields: Fields, family: str) -> str:
    """The class of processors, without the ends that its versions have."""
    named = fields.raw("image_processor_type") or fields.raw("feature_extractor_type")
    for kind in _PROCESSORS:
        if isinstance(named, str) and named.startswith((f"{kind}ImageProcessor", f"{kind}FeatureExtractor")):
            return kind
    if named is not None:
        known = ", ".join(f"{kind}ImageProcessor" for kind in _PROCESSORS)
        raise InputError(f"model: {fields.where} names {str(named)[:100]!r}, which is unknown; known are {known}")
    return _OF_FAMILY[family]


def _fitting(fields: Fields, kind: str) -> tuple[int, Fitting]:
    """The network's size, and how images are brought to it."""
    of = _PROCESSORS[kind]
    if not fields.flag("do_resize", True):
        raise fields.unfit("do_resize", "true, as images come in every size")
    interpolation = fields.raw("resample")
    if interpolation is None:
        interpolation = of.interpolation
    if type(interpolation) is not int or not 0 <= interpolation < len(INTERPOLATIONS):
        raise fields.unfit("resample", f"0 to {len(INTERPOLATIONS) - 1}")
    side, square = _size(fields, "size", square=of.square)
    size = side
    if kind == "ConvNext":
        if side >= _UNCROPPED_FROM:
            square = True
        else:
            side, square = _before_crop(fields, side, _CROP_SHARE), False
    elif fields.flag("do_center_crop", of.crops):
        size, _ = _size(fields, "crop_size", square=True)
    elif not square:
        raise InputError(f"model: {fields.where} makes images that are not square; give one with do_center_crop")
    if size > side:
        raise InputError(
            f"model: {fields.where} cuts {size} pixels out of {side}; crop_size must not be larger than size"
        )
    return size, Fitting(side, square, INTERPOLATIONS[interpolation])


def _before_crop(fields: Fields, size: int, default: float) -> int:
    """The side of which the centre of this size is cut out."""
    share = fields.number("crop_pct", default)
    if not size / MOST_PIXELS <= share <= 1:
        raise fields.unfit("crop_pct", f"a share of at most {MOST_PIXELS} pixels that has {size} of them")
    return int(size / share)


def _size(fields: Fields, name: str, *, square: bool) -> tuple[int, bool]:
    """A length, and whether it is of both sides; one number is so if `square`."""
    if not isinstance(fields.raw(name), dict):
        return fields.side(name), square
    sides = fields.inner(name)
    if "shortest_edge" in sides:
        return sides.side("shortest_edge"), False
    height, width = sides.side("height"), sides.side("width")
    if height != width:
        raise fields.unfit(name, "two sides alike")
    return height, True
