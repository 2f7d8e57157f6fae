"""The pencil of a pair in pictures: its eigenvalues with the labels, and the price of protection."""

from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.measures.diagnosis import PROTECTED, Diagnosis, Protection
from cimm_jax.views.draw.scheme import Scheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_alignment", "draw_front", "draw_spectrum"]


def draw_spectrum(axes: "Axes", scheme: Scheme, diagnosis: Diagnosis) -> None:
    """Generalised eigenvalues, and where the labels of both tasks lie among them."""
    place = np.arange(1, len(diagnosis.mu) + 1)
    positive = diagnosis.mu > 0
    axes.plot(place[positive], diagnosis.mu[positive], color=scheme.quiet, label="mu")
    axes.set(yscale="log", xlabel="pencil direction", ylabel="mu: harmful over primary energy")
    if diagnosis.harmful_energy is None or diagnosis.primary_energy is None:
        return
    labels = axes.twinx()
    energies = {"harmful": diagnosis.harmful_energy, "primary": diagnosis.primary_energy}
    for shift, (task, energy) in zip((-0.2, 0.2), energies.items(), strict=True):
        labels.bar(place + shift, energy, 0.4, color=scheme.tasks[task], alpha=0.7, label=f"{task} labels")
    labels.set_ylabel("share of label energy")


def draw_front(axes: "Axes", scheme: Scheme, diagnosis: Diagnosis) -> None:
    """What protection costs the primary task: every allocation that no other beats in both."""
    axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel="primary excess loss left, times undefended")
    axes.set_ylabel("harmful excess loss left")
    if diagnosis.protection is None or diagnosis.sample_only is None:
        return
    _draw_protection(axes, diagnosis.protection, "-", scheme.cycle[1])
    if diagnosis.sample_only.ridge != diagnosis.protection.ridge:
        _draw_protection(axes, diagnosis.sample_only, "--", scheme.quiet)
    axes.axvline(1, color=scheme.quiet, linewidth=0.8, linestyle=":")
    axes.axhline(PROTECTED, color=scheme.quiet, linewidth=0.8, linestyle=":")
    axes.grid(alpha=0.25)


def draw_alignment(axes: "Axes", scheme: Scheme, cosines: np.ndarray) -> None:
    """|u_i^T v_j| of the leading directions, shape (k, k)."""
    image = axes.imshow(cosines, cmap=scheme.colormap("sequential"), vmin=0, vmax=1)
    axes.set(xlabel="harmful singular vector", ylabel="primary singular vector")
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="|cosine|")


def _draw_protection(axes: "Axes", protection: Protection, style: str, colour: str) -> None:
    slow, left = protection.front.slow_down, protection.front.harmful_left
    axes.step(np.maximum(slow, 1e-4), left, style, where="post", color=colour, label=f"ridge {protection.ridge:.2g}")
