"""Results in plain words."""

from collections.abc import Mapping

import numpy as np

from cimm_jax.measures.metrics import MUCH_GREATER
from cimm_jax.methods._sweep import Measured


def sweep_paragraph(measured: Mapping[str, Measured], pairs: int) -> str:
    """One paragraph that says what was protected by Definition 3.1, what was not, and what that does not mean."""
    sentences = [_method_sentence(name, m, pairs) for name, m in measured.items()]
    return (
        f"In plain words: a pair counts as protected if the harmful task's condition number grew at least {MUCH_GREATER:g} "
        "times while the primary task's did not grow and its best loss was kept. "
        + " ".join(sentences)
        + f" Of the log of the largest RIR that any linear extractor can have, {_shares(measured)}."
        + " A condition number bounds how fast plain gradient descent on a linear probe converges. It says nothing about an "
        "attacker who whitens the features, solves the normal equations or fine-tunes the extractor itself: against those, "
        "nothing here was measured, and a linear map alone protects nothing."
    )


def _method_sentence(name: str, measured: Measured, pairs: int) -> str:
    train = _protected_pairs(measured.train)
    heldout = _protected_pairs(measured.heldout)
    ratio = measured.train.ratio
    if heldout == 0 and train == 0:
        harder = int((np.asarray(ratio.harmful_ratio) >= MUCH_GREATER).mean(1).round().sum())
        costly = int((np.asarray(ratio.primary_ratio) > 1).mean(1).round().sum())
        return (
            f"{name} protected none of the {pairs} pairs: it made the harmful task that much harder on {harder}, and the "
            f"primary task harder on {costly}."
        )
    return f"{name} protected {train} of {pairs} pairs on the rows it saw and {heldout} on held-out rows."


def _shares(measured: Mapping[str, Measured]) -> str:
    shares = {name: float(np.nanmean(m.share.share)) for name, m in measured.items()}
    return ", ".join(f"{name} reaches {share:.0%}" for name, share in shares.items())


def _protected_pairs(judged) -> int:
    """Pairs that most seeds protect."""
    return int((np.asarray(judged.conditions.immunized).mean(1) > 0.5).sum())
