"""Convolutions that are quick on a CPU, and so are their gradients, where XLA's own are slow.

    y[n, h, w, o] = sum_{i, j, c} x[n, s h + i, s w + j, c] k[i, j, c, o],     x padded

What XLA's CPU backend does slowly (jaxlib 0.10.2), and what is done instead:

* The gradient of the kernel has each image transposed, in the same loop that computes the image anew from all that it is a sum
  of; and in the body of a loop the convolution itself takes thirty times as long. Here it is one product per few images:
  columns of x beside each other times rows of the gradient beside each other, or, with strides, all patches times the gradient.
* Up to 16 channels miss the quick kernels. Pairs of neighbouring outputs become one output with twice the channels, of a kernel
  one column wider: a third more multiplications, in less time. Fewer than four channels miss them too, and are padded.
* A 1x1 convolution is a matrix product, and so are its gradients.

Elsewhere it is `jax.lax.conv_general_dilated` and its gradients. Derivatives are in reverse mode, of any order.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.errors import InputError
from cimm_jax.numerics.meshes import is_spread
from cimm_jax.numerics.products import product

__all__ = ["SAME", "Convolution", "Padding", "convolve", "pads_of"]

SAME = "SAME"
"""TensorFlow's padding: as much as gives ceil(size / stride) outputs, the odd row or column at the end."""

Padding = int | str | tuple[int, int]
"""Rows and columns on every side, as PyTorch counts them, or before and after, or `SAME`."""

_FEW_CHANNELS = 16
"""XLA's quick kernels take float32 convolutions with more channels than this, of inputs or of outputs."""

_LEAST_INPUTS = 4
"""With fewer input channels they are slow, unless the window is large."""

_SMALL_WINDOW = 9
"""Entries of a window, one channel, that is not large."""

_CACHED_BYTES = 1 << 20
"""About what a core keeps in its second cache: the size of what one product for the gradient of a kernel reads."""

_WHOLE_SUMS = 2
"""A product reads at the least this many times the size of the sum that it is added to."""


class Convolution(nnx.Module):
    """A convolution with the same odd kernel, stride and padding along height and width, without bias.

    Attributes:
      kernel: shape (size, size, inputs, outputs), initialised by He's rule over outputs.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int, padding: Padding, rngs: nnx.Rngs):
        self.stride, self.padding = stride, padding
        init = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
        self.kernel = nnx.Param(init(rngs.params(), (size, size, inputs, outputs), jnp.float32))

    def __call__(self, x: jax.Array, scale: jax.Array | None = None) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, ..., ..., outputs), times a scale for each output, shape (outputs,)."""
        kernel = self.kernel[...]
        scaled = kernel if scale is None else kernel * scale[None, None, None]
        return convolve(x, scaled, stride=self.stride, padding=self.padding)


def convolve(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: Padding = 0) -> jax.Array:
    """The convolution, as machine learning calls a correlation, at the default precision of the device.

    Args:
      x: images, shape (N, height, width, inputs).
      kernel: shape (rows, columns, inputs, outputs), of the same dtype.
      stride: along height and width.
      padding: along height and width.

    Returns:
      Shape (N, height', width', outputs), of the same dtype.

    Raises:
      InputError: if the shapes or the dtypes do not go together.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        wanted = "needs shapes (N, height, width, inputs) and (rows, columns, inputs, outputs)"
        raise InputError(f"x and kernel: {wanted}, got {tuple(x.shape)} and {tuple(kernel.shape)}")
    if x.dtype != kernel.dtype:
        raise InputError(f"x: needs the kernel's dtype {kernel.dtype}, got {x.dtype}; cast it first")
    window = _Window(stride, pads_of(padding, x.shape[1:3], kernel.shape[:2], stride))
    if is_spread(x) or is_spread(kernel):
        return _plain(x, kernel, window)
    return _convolve(x, kernel, window)


def pads_of(
    padding: Padding, lengths: Sequence[int], window: Sequence[int], stride: int
) -> tuple[tuple[int, int], ...]:
    """Zeros before and after, along height and width.

    Args:
      padding: what is asked for.
      lengths: height and width of the images.
      window: of the kernel.
      stride: along both.
    """
    if isinstance(padding, str):
        found = jax.lax.padtype_to_pads(lengths, window, (stride, stride), padding)
        return tuple((before, after) for before, after in found)
    return ((padding, padding) if isinstance(padding, int) else padding,) * 2


class _Window(NamedTuple):
    """How a kernel moves.

    Attributes:
      stride: along height and width.
      pads: rows of zeros before and after, and columns.
    """

    stride: int
    pads: tuple[tuple[int, int], ...]


def _plain(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """XLA's own."""
    strides = (window.stride, window.stride)
    return jax.lax.conv_general_dilated(x, kernel, strides, window.pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    plain = partial(_plain, window=window)
    return jax.lax.platform_dependent(x, kernel, cpu=partial(_forward, window=window), default=plain)


def _forward_rule(x: jax.Array, kernel: jax.Array, window: _Window):
    return _convolve(x, kernel, window), (x, kernel)


def _backward_rule(window: _Window, saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    def xla(x, kernel, gradient):
        return jax.vjp(partial(_plain, window=window), x, kernel)[1](gradient)

    def cpu(x, kernel, gradient):
        return _input_gradient(x, kernel, gradient, window), _kernel_gradient(x, kernel, gradient, window)

    return jax.lax.platform_dependent(*saved, gradient, cpu=cpu, default=xla)


_convolve.defvjp(_forward_rule, _backward_rule)


def _is_pointwise(kernel: jax.Array, window: _Window) -> bool:
    return kernel.shape[:2] == (1, 1) and window.pads == ((0, 0), (0, 0))


def _forward(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    if _is_pointwise(kernel, window):
        kept = x[:, :: window.stride, :: window.stride]
        flat = product(kept.reshape(-1, kept.shape[3]), kernel[0, 0])
        return flat.reshape(*kept.shape[:3], kernel.shape[3])
    if x.dtype != jnp.float32:
        return _plain(x, kernel, window)
    missing = _LEAST_INPUTS - x.shape[3]
    if missing > 0 and kernel.shape[0] * kernel.shape[1] <= _SMALL_WINDOW:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, missing), (0, 0)))
    width = x.shape[2] + sum(window.pads[1]) - kernel.shape[1] + 1
    inputs, outputs = kernel.shape[2:]
    helps = max(inputs, outputs) <= _FEW_CHANNELS < 2 * outputs
    if helps and window.stride == 1 and width % 2 == 0:
        return _in_pairs(x, kernel, window)
    return _plain(x, kernel, window)


def _in_pairs(x: jax.Array, kernel: jax.Array, window: _Window) -> jax.Array:
    """Outputs 2 w and 2 w + 1 of a row at once, as twice the channels of one output."""
    left, right = (jnp.pad(kernel, ((0, 0), sides, (0, 0), (0, 0))) for sides in ((0, 1), (1, 0)))
    both = jnp.concatenate([left, right], axis=3)
    pairs = jax.lax.conv_general_dilated(x, both, (1, 2), window.pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    images, height, width, channels = pairs.shape
    return pairs.reshape(images, height, 2 * width, channels // 2)


def _input_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: _Window) -> jax.Array:
    """With stride 1, the convolution of the gradient with the kernel turned round."""
    if window.stride == 1:
        turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        sizes = zip(kernel.shape[:2], window.pads, strict=True)
        pads = tuple((size - 1 - before, size - 1 - after) for size, (before, after) in sizes)
        return _forward(gradient, turned, _Window(1, pads))
    if _is_pointwise(kernel, window):
        kept = _forward(gradient, jnp.swapaxes(kernel, 2, 3), _Window(1, window.pads))
        spaces = [
            (0, length - 1 - window.stride * (count - 1), window.stride - 1)
            for length, count in zip(x.shape[1:3], kept.shape[1:3], strict=True)
        ]
        return jax.lax.pad(kept, jnp.zeros((), kept.dtype), [(0, 0, 0), *spaces, (0, 0, 0)])
    (result,) = jax.linear_transpose(lambda x: _plain(x, kernel, window), x)(gradient)
    return result


def _kernel_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: _Window) -> jax.Array:
    """A sum of products over as many images at a time as a cache holds; images are read where they are, not computed anew."""
    if _is_pointwise(kernel, window):
        kept = x[:, :: window.stride, :: window.stride]
        return product(kept.reshape(-1, kept.shape[3]).T, gradient.reshape(-1, gradient.shape[3]))[None, None]
    terms = partial(_separated if window.stride == 1 else _patched, kernel=kernel, window=window)

    def of_images(x: jax.Array, gradient: jax.Array) -> jax.Array:
        left, right = terms(x, gradient)
        return product(left.reshape(-1, left.shape[3]).T, right.reshape(-1, right.shape[3]))

    one = [jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for array in (x, gradient)]
    images = _images_at_once(len(x), sum(part.size for part in jax.eval_shape(terms, *one)), kernel)
    chunks = [array.reshape(len(x) // images, images, *array.shape[1:]) for array in (x, gradient)]
    begun = jnp.zeros(jax.eval_shape(of_images, *one).shape, x.dtype)
    total, _ = jax.lax.scan(lambda total, chunk: (total + of_images(*chunk), None), begun, chunks)
    if window.stride > 1:
        return total.reshape(kernel.shape)
    rows, columns, inputs, outputs = kernel.shape
    return total.reshape(columns, inputs, rows, outputs).transpose(2, 0, 1, 3)


def _images_at_once(images: int, read: int, kernel: jax.Array) -> int:
    """A divisor of the number of images, of which a product reads so many entries each."""
    most = max(_CACHED_BYTES // kernel.dtype.itemsize, _WHOLE_SUMS * kernel.size) // max(read, 1)
    return max(count for count in range(1, max(min(most, images), 1) + 1) if images % count == 0)


def _separated(x: jax.Array, gradient: jax.Array, kernel: jax.Array, window: _Window) -> tuple[jax.Array, jax.Array]:
    """Two arrays with channels (columns, inputs) and (rows, outputs), whose product over all else is the kernel's gradient.

    Column j of the kernel shifts x, and row i the gradient the other way, where patches would hold rows * columns copies of x.
    """
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1], gradient.shape[2]
    vertical, horizontal = window.pads
    padded = jnp.pad(x, ((0, 0), (0, 0), horizontal, (0, 0)))
    left = [padded[:, :, j : j + width] for j in range(columns)]
    before, after = (rows - 1 - pad for pad in vertical)
    spaces = [(0, 0, 0), (before, after, 0), (0, 0, 0), (0, 0, 0)]
    shifted = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), spaces)
    right = [shifted[:, rows - 1 - i : rows - 1 - i + height] for i in range(rows)]
    return jnp.concatenate(left, axis=3), jnp.concatenate(right, axis=3)


def _patched(x: jax.Array, gradient: jax.Array, kernel: jax.Array, window: _Window) -> tuple[jax.Array, jax.Array]:
    """The patches that each output sees, with channels (rows, columns, inputs), and the gradient."""
    rows, columns = kernel.shape[:2]
    padded, stride = jnp.pad(x, ((0, 0), *window.pads, (0, 0))), window.stride

    def seen(row: int, column: int) -> jax.Array:
        vertical, horizontal = (
            slice(start, start + stride * (count - 1) + 1, stride)
            for start, count in zip((row, column), gradient.shape[1:3], strict=True)
        )
        return padded[:, vertical, horizontal]

    patches = [seen(row, column) for row in range(rows) for column in range(columns)]
    return jnp.concatenate(patches, axis=3), gradient
