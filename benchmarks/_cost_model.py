"""What linear algebra on rows spread over devices costs: operations, bytes read, bytes that travel, and from these seconds.

    covariance   K = X^T X      2 N d^2 / p operations a device; N d / p entries read; an all-reduce of d^2
    factor       F^T F = K      2 N d^2 / p, QR without its left factor, and the rows copied some times over; p d^2 gathered,
                                then the same of p d rows on one device
    spectrum     of K or F      10 d^3 (tridiagonal form, eigenvalues, eigenvectors) on one device
    pass         v -> X^T X v   4 N d / p operations: the entries read, twice; an all-reduce of d

A machine is a few rates. Devices that are parts of one processor share its rates; accelerators each have their own.
"""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["OPERATIONS", "Machine", "Shape", "bytes_held", "seconds"]


COPIES = 12
"""How often QR reads or writes its matrix besides: scaled, mixed, padded, its panels. Chosen on one machine."""


class Shape(NamedTuple):
    """A problem and where it runs.

    Attributes:
      rows: N.
      width: d.
      devices: p, over which the rows are spread.
      entry: bytes of a number.
    """

    rows: int
    width: int
    devices: int
    entry: int


class Machine(NamedTuple):
    """Rates of one device, a second.

    Attributes:
      product: operations of matrix products.
      factor: operations of QR.
      spectrum: operations of symmetric eigenproblems.
      memory: bytes read.
      link: bytes that a device sends in an all-reduce or a gather; for devices of one processor, copied.
      latency: seconds that a collective takes at least.
      shared: whether all devices together have these rates.
    """

    product: float
    factor: float
    spectrum: float
    memory: float
    link: float
    latency: float
    shared: bool = False


def _covariance(s: Shape, m: Machine) -> float:
    own = s.rows / (1 if m.shared else s.devices)
    computed = max(2 * own * s.width**2 / m.product, own * s.width * s.entry / m.memory)
    return computed + _all_reduce(s.width**2 * s.entry, s, m)


def _factor(s: Shape, m: Machine) -> float:
    own = s.rows / (1 if m.shared else s.devices)
    if s.devices == 1:
        return _qr(own, s, m)
    gathered = s.devices * s.width**2 * s.entry / m.link + m.latency
    return _qr(own, s, m) + gathered + _qr(s.devices * s.width, s, m)


def _qr(rows: float, s: Shape, m: Machine) -> float:
    return 2 * rows * s.width**2 / m.factor + COPIES * rows * s.width * s.entry / m.memory


def _spectrum(s: Shape, m: Machine) -> float:
    return 10 * s.width**3 / m.spectrum


def _pass(s: Shape, m: Machine) -> float:
    own = s.rows / (1 if m.shared else s.devices)
    return 2 * own * s.width * s.entry / m.memory + _all_reduce(s.width * s.entry, s, m)


OPERATIONS: dict[str, Callable[[Shape, Machine], float]] = {
    "covariance": _covariance,
    "factor": _factor,
    "spectrum": _spectrum,
    "pass": _pass,
}


def seconds(operation: str, shape: Shape, machine: Machine) -> float:
    """What the model says that one of `OPERATIONS` takes."""
    return OPERATIONS[operation](shape, machine)


def bytes_held(shape: Shape, *, chunk: int | None = None) -> float:
    """Of a device: its rows, or so many of them at a time, and two matrices of the width squared."""
    own = shape.rows / shape.devices if chunk is None else chunk
    return shape.entry * (own * shape.width + 2 * shape.width**2)


def _all_reduce(size: float, s: Shape, m: Machine) -> float:
    """A ring: each device sends almost twice the array; devices of one processor copy it once each."""
    if s.devices == 1:
        return 0.0
    sent = s.devices * size if m.shared else 2 * (s.devices - 1) / s.devices * size
    return sent / m.link + m.latency
