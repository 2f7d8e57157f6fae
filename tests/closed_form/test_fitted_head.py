import numpy as np
import pytest

from cimm_jax.closed_form import fitted_head
from cimm_jax.closed_form.fitted_head import fit_head
from cimm_jax.errors import InputError


def blobs(rng, rows, spread=0.5):
    """Three classes around three means, in features of very different scales, one of which does not vary."""
    labels = np.sort(rng.integers(0, 3, rows))
    means = np.array([[0, 0, 1], [2, 0, 1], [0, 2, 1]], np.float32)
    x = means[labels] + spread * rng.normal(size=(rows, 3)) * [1, 1, 0]
    return np.float32(x * [1, 1e-3, 1] + [0, 5, 0]), labels


def cross_entropy(head, x, labels):
    logits = np.asarray(head.logits(x), np.float64)
    return -np.mean((logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(x)), labels])


def test_a_fitted_head_classifies_rows_that_it_has_not_seen_and_is_as_confident_as_it_is_right(rng):
    head = fit_head(*blobs(rng, 400), 3)
    assert (head.kernel.dtype, head.kernel.shape, head.bias.shape) == (np.float32, (3, 3), (3,))
    x, labels = blobs(rng, 400)
    assert np.mean(head.logits(x).argmax(1) == labels) > 0.9
    assert np.all(head.kernel[2] == 0), "what does not vary says nothing"
    losses = {
        times: cross_entropy(head._replace(kernel=times * head.kernel, bias=times * head.bias), x, labels)
        for times in (0.5, 1, 2)
    }
    assert losses[1] < min(losses[0.5], losses[2])


def test_a_feature_that_varies_below_rounding_has_no_weight(rng):
    """MiniLM has such ones: whatever mixed them with the others behind a map lost the primary task to their weights."""
    x, labels = blobs(rng, 400)
    nothing = np.float32(labels[:, None] * [1e-33, 5e-9] + [0, 1.0])
    head = fit_head(np.concatenate([x, nothing], axis=1), labels, 3)
    assert np.all(head.kernel[3:] == 0)
    assert np.abs(head.kernel).max() < 2 * np.abs(fit_head(x, labels, 3).kernel).max()


def test_labels_that_features_know_nothing_of_are_answered_with_their_shares(rng):
    x = rng.normal(size=(400, 3)).astype(np.float32)
    head = fit_head(x, rng.integers(0, 3, 400), 3)
    assert cross_entropy(head, x, rng.integers(0, 3, 400)) < np.log(3) + 0.1


def test_a_head_of_rows_that_are_told_apart_is_not_infinitely_sure(rng):
    x, labels = blobs(rng, 400, spread=1e-3)
    head = fit_head(x, labels, 3)
    assert 1e-4 < cross_entropy(head, x, labels) < 0.05


def test_a_class_without_rows_is_never_the_answer_and_few_rows_choose(rng, monkeypatch):
    x, labels = blobs(rng, 400)
    whole = fit_head(x, labels, 4)
    assert 3 not in whole.logits(x).argmax(1)
    monkeypatch.setattr(fitted_head, "CHOOSING_ROWS", 40)
    few = fit_head(x, labels, 4)
    assert np.mean(few.logits(x).argmax(1) == whole.logits(x).argmax(1)) > 0.98


def test_what_cannot_be_fitted_is_refused(rng):
    with pytest.raises(InputError, match="x: needs at least 4 rows to fit a head, got 3"):
        fit_head(np.zeros((3, 2), np.float32), np.arange(3), 3)
    with pytest.raises(InputError, match="x: has features that are not finite"):
        fit_head(np.full((5, 2), np.nan, np.float32), np.zeros(5, int), 2)
