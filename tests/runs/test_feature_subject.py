"""Own features as a subject: what methods see, what attackers attack, and who has which rows."""

from pathlib import Path

import jax
import numpy as np
import pytest
from data.feature_examples import X, Y, write_csv, write_npz

from cimm_jax import losses, methods
from cimm_jax.errors import InputError
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.source import FeatureSource

AMOUNTS = np.linspace(5.0, 7.0, 12)


def subject(folder: Path, harmful=None, **source) -> FeatureSubject:
    """Two classes to keep, three to block."""
    primary = write_npz(folder / "p.npz", y=Y > 0) if "target" not in source else write_npz(folder / "p.npz", y=AMOUNTS)
    return FeatureSubject(FeatureSource(primary, write_npz(folder / "h.npz", **(harmful or {})), **source))


def rows_of(x) -> set[int]:
    return {int(np.flatnonzero((np.asarray(row) == X).all(1))[0]) for row in x}


def test_methods_see_centred_classes_in_float64(tmp_path):
    found = subject(tmp_path)
    pairs = found.pairs()
    assert list(pairs) == ["train", "heldout"]
    train, heldout = pairs["train"], pairs["heldout"]
    assert [leaf.dtype for leaf in jax.tree.leaves(pairs)] == [np.float64] * 8
    assert (train.primary.y.shape, train.harmful.y.shape, heldout.harmful.y.shape) == ((9, 1), (9, 3), (3, 3))
    np.testing.assert_allclose(np.asarray(train.harmful.y).mean(0), 0, atol=1e-12)
    labels = Y[[int(np.flatnonzero((row == X).all(1))[0]) for row in np.asarray(heldout.harmful.x, np.float32)]]
    np.testing.assert_array_equal(np.asarray(heldout.harmful.y).argmax(1), labels)
    assert (found.features, found.by_errors, found.can_be_judged, found.own_images) == (3, True, True, False)
    assert rows_of(found.attackers_rows.x) == rows_of(train.harmful.x)
    assert rows_of(found.judging_rows.x) == rows_of(heldout.harmful.x)


@pytest.mark.parametrize("given", [{}, {"target": "regression"}])
def test_reserved_rows_are_attackers_alone(tmp_path, given):
    found, plain = subject(tmp_path, reserved=0.5, **given), subject(tmp_path, **given)
    defended, taken = rows_of(found.pairs()["train"].harmful.x), rows_of(found.attackers_rows.x)
    assert found.own_images
    assert not defended & taken
    assert defended | taken == rows_of(plain.pairs()["train"].harmful.x) == rows_of(found.all_harmful_rows.x)
    assert found.checksums() == plain.checksums(), "what the files hold"


def test_classes_are_attacked_with_any_loss_and_amounts_with_the_squared_one(tmp_path):
    found = subject(tmp_path)
    squared, logistic = (found.attacked(loss)["harmful"] for loss in (losses.squared, losses.logistic))
    np.testing.assert_allclose(squared.train.y.mean(0), 0, atol=1e-12)
    assert set(np.unique(logistic.train.y)) == set(np.unique(squared.heldout.y)) == {-1.0, 1.0}
    assert list(found.attacked(losses.squared)) == ["harmful", "primary"]
    with pytest.raises(InputError, match=r"^loss: the primary task has two classes; use --loss logistic$"):
        found.check_loss(losses.softmax)
    amounts = subject(tmp_path, {"y": AMOUNTS**2}, target="regression")
    assert not amounts.by_errors
    assert amounts.attacked(losses.squared)["primary"].train.y.std() == pytest.approx(1)
    with pytest.raises(InputError, match=r"^loss: amounts are no classes; use --loss squared$"):
        amounts.attacked(losses.logistic)


def test_the_source_says_what_share_was_held_out(tmp_path):
    assert subject(tmp_path).source.heldout_share == 0.2
    assert subject(tmp_path, heldout_share=0.5).source.heldout_share == 0.5
    given = {"x_heldout": X[:3], "y_heldout": Y[:3]}
    source = FeatureSource(*[write_npz(tmp_path / "g.npz", **given)] * 2)
    opened = FeatureSubject(source)
    assert opened.source == source, "no rows were drawn"
    assert FeatureSubject(subject(tmp_path, given).source).checksums() == subject(tmp_path, given).checksums()


def test_tasks_are_called_what_their_files_are(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    same = FeatureSource(write_npz(tmp_path / "a/x.npz"), write_npz(tmp_path / "b/x.npz"))
    assert FeatureSubject(same).names == ("a/x.npz", "b/x.npz", None)
    benign = FeatureSource(write_npz(tmp_path / "p.npz"), write_npz(tmp_path / "h.npz"), write_csv(tmp_path / "c.csv"))
    found = FeatureSubject(benign)
    assert found.names == ("p.npz", "h.npz", "c.csv")
    assert list(found.attacked(losses.squared)) == ["harmful", "primary", "benign"]


def test_checksums_are_of_numbers_and_labels_in_whatever_file(tmp_path):
    first = subject(tmp_path)
    same = FeatureSource(write_npz(tmp_path / "q.npz", y=np.where(Y > 0, "yes", "no")), tmp_path / "h.npz", label="y")
    assert FeatureSubject(same).checksums() == first.checksums()
    changed = write_npz(tmp_path / "q.npz", X + np.eye(12, 3, dtype=np.float32), Y > 0)
    checksums = FeatureSubject(FeatureSource(changed, tmp_path / "h.npz")).checksums()
    differing = {name for name, of in first.checksums().items() if checksums[name] != of}
    assert differing <= {"train.primary.x", "heldout.primary.x"}
    assert differing
    assert len(checksums) == 8


def test_labels_that_a_method_or_an_attacker_needs_are_asked_for(tmp_path):
    found = subject(tmp_path, {"y": None})
    found.check_method(methods.pencil())
    assert not found.can_be_judged
    named = rf"^harmful: {tmp_path}/h.npz has no labels, and "
    for ask in (
        lambda: found.check_method(methods.algorithm1()),
        lambda: found.attacked(losses.squared),
        lambda: found.judging_rows,
    ):
        with pytest.raises(InputError, match=named):
            ask()
