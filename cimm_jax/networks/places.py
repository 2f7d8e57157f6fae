"""What a network makes of images at every place where somebody could put a head, pooled to rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from cimm_jax.data.image_set import ImageSet
from cimm_jax.errors import InputError
from cimm_jax.networks.activation_cache import BATCH_ROWS, EVERY_PART, cached_outputs
from cimm_jax.networks.backbone import FEATURES, Backbone

__all__ = ["EVERYWHERE", "chosen_places", "pooled_outputs", "together"]

EVERYWHERE = "all layers"
"""The place that is all of them side by side."""


def pooled_outputs(
    model: Backbone,
    images: ImageSet,
    *,
    weights_sha256: str,
    cache: Path,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Pooled outputs of every part, float32 of shape (N, ...), by its name, and "features", which are those of the last.

    Args:
      model: the network.
      images: what it looks at.
      weights_sha256: checksum of its weights.
      cache: folder of `activation_cache`.
      progress: told how many images are done.

    Raises:
      InputError: as `activation_cache.cached_outputs`.
    """
    rows = min(BATCH_ROWS, len(images))
    outputs = cached_outputs(
        cache, model, images, weights_sha256=weights_sha256, cut=EVERY_PART, batch_rows=rows, progress=progress
    )
    widths = _widths(model)
    starts = np.cumsum([0, *widths.values()])
    found = {
        name: outputs[:, start : start + width]
        for (name, width), start in zip(widths.items(), starts[:-1], strict=True)
    }
    *_, last = found
    return {**{name: of for name, of in found.items() if name != last}, FEATURES: found[last]}


def chosen_places(model: Backbone, asked: Sequence[str]) -> tuple[str, ...]:
    """The places asked for, or all but the features if none is; raises `InputError` with the known ones for another name."""
    known = model.cuts[:-2]  # the outputs of the last part are the features
    for name in asked:
        if name not in known:
            raise InputError(f"layers: {name!r} is unknown; choose among {', '.join(known)}")
    return tuple(asked) or known


def together(outputs: Mapping[str, np.ndarray], places: Sequence[str]) -> np.ndarray:
    """The outputs at several places side by side, shape (N, ...)."""
    return np.concatenate([outputs[place] for place in places], axis=1)


def _widths(model: Backbone) -> dict[str, int]:
    """Numbers of pooled outputs by part, in order, which a dictionary loses when it is a pytree."""
    size = model.config.preprocess.size
    graphdef, state = nnx.split(model)
    shapes = jax.eval_shape(
        lambda state, x: nnx.merge(graphdef, state).pooled(x),
        state,
        jax.ShapeDtypeStruct((1, size, size, 3), model.head.kernel.dtype),
    )
    return {name: shapes[name].shape[1] for name in model.cuts[:-1]}
