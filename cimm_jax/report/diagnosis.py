"""A diagnosis as a picture: the pencil with its labels, the price of protection, and how the leading directions align."""

from collections.abc import Mapping

import numpy as np

from cimm_jax.measures.diagnosis import PROTECTED, Diagnosis, Protection
from cimm_jax.report.convergence import COLOURS
from cimm_jax.report.png import png_bytes

BLUE, GREY = "#33508a", "#777777"


def diagnosis_picture(diagnosis: Diagnosis, *, title: str) -> bytes:
    """PNG bytes of three panels: generalised eigenvalues and label energies, the Pareto front, |u_i^T v_j|."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.4), layout="constrained")
    spectrum, front, cosines = figure.subplots(1, 3)
    draw_spectrum(spectrum, diagnosis)
    draw_front(front, diagnosis)
    image = cosines.imshow(diagnosis.alignment.cosines, cmap="Greys", vmin=0, vmax=1)
    cosines.set(
        title=f"alignment {diagnosis.alignment.score:.2f} of {len(diagnosis.alignment.cosines)}",
        xlabel="harmful singular vector",
        ylabel="primary singular vector",
    )
    figure.colorbar(image, ax=cosines, shrink=0.8, label="|cosine|")
    figure.suptitle(f"{title}: {diagnosis.verdict}")
    return png_bytes(figure)


def draw_spectrum(axes, diagnosis: Diagnosis, colours: Mapping[str, str] = COLOURS) -> None:
    """Generalised eigenvalues, and where the labels of both tasks lie among them."""
    place = np.arange(1, len(diagnosis.mu) + 1)
    positive = diagnosis.mu > 0
    axes.plot(place[positive], diagnosis.mu[positive], color=GREY, label="mu")
    axes.set(
        yscale="log", xlabel="pencil direction", ylabel="mu: harmful over primary energy", title="pencil and labels"
    )
    if diagnosis.harmful_energy is None or diagnosis.primary_energy is None:
        return
    labels = axes.twinx()
    labels.bar(place - 0.2, diagnosis.harmful_energy, 0.4, color=colours["harmful"], alpha=0.7, label="harmful labels")
    labels.bar(place + 0.2, diagnosis.primary_energy, 0.4, color=colours["primary"], alpha=0.7, label="primary labels")
    labels.set_ylabel("share of label energy")
    labels.legend(frameon=False, fontsize=8, loc="upper right")


def draw_front(axes, diagnosis: Diagnosis, colour: str = BLUE) -> None:
    """What protection costs the primary task: every allocation that no other beats in both."""
    axes.set(
        xscale="log",
        ylim=(-0.02, 1.02),
        xlabel="primary excess loss left, times undefended",
        ylabel=f"harmful excess loss left after {diagnosis.watched[-1]} steps",
        title="protection and its price",
    )
    if diagnosis.protection is None or diagnosis.sample_only is None:
        axes.text(0.5, 0.5, "no targets", ha="center", transform=axes.transAxes)
        return
    _draw_protection(axes, diagnosis.protection, "-", colour)
    if diagnosis.sample_only is not diagnosis.protection:
        _draw_protection(axes, diagnosis.sample_only, "--", GREY)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.axhline(PROTECTED, color=GREY, linewidth=0.8, linestyle=":")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def _draw_protection(axes, protection: Protection, style: str, colour: str) -> None:
    slow, left = protection.front
    axes.step(np.maximum(slow, 1e-4), left, style, where="post", color=colour, label=f"ridge {protection.ridge:.2g}")
