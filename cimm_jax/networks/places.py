"""What a network makes of images at every place where somebody could put a head, pooled to rows."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from cimm_jax.data.image_set import ImageSet
from cimm_jax.networks.activation_cache import EVERY_PART, cached_outputs
from cimm_jax.networks.backbone import FEATURES, Backbone

__all__ = ["pooled_outputs"]


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
    outputs = cached_outputs(cache, model, images, weights_sha256=weights_sha256, cut=EVERY_PART, progress=progress)
    widths = _widths(model)
    starts = np.cumsum([0, *widths.values()])
    found = {
        name: outputs[:, start : start + width]
        for (name, width), start in zip(widths.items(), starts[:-1], strict=True)
    }
    *_, last = found
    return {**{name: of for name, of in found.items() if name != last}, FEATURES: found[last]}


def _widths(model: Backbone) -> dict[str, int]:
    """Numbers of pooled outputs by part, in order, which a dictionary loses when it is a pytree."""
    graphdef, state = nnx.split(model)
    shapes = jax.eval_shape(
        lambda state, x: nnx.merge(graphdef, state).pooled(x),
        state,
        jax.ShapeDtypeStruct((1, *model.config.preprocess.shape), model.head.kernel.dtype),
    )
    return {name: shapes[name].shape[1] for name in model.cuts[:-1]}
