"""Recurrences where blocks are trained: what is counted, when a prediction drifts, and what the sentences say."""

import json

import numpy as np
import pytest

from experiments import nonlinear_recurrences as recurrences
from experiments.nonlinear_recurrences import by_variant, drifts, guesses, tabulated, verdict
from experiments.recurrence_subjects import EXACT


@pytest.fixture(autouse=True)
def standard_promotion(standard_promotion_everywhere):
    return standard_promotion_everywhere


def step(term, own, other, **more):
    changes = (own, other) if term.startswith("well") else (other, own)
    return {"term": term, "size": 1.0, "primary": changes[0], "harmful": changes[1], **more}


def record(subject, seed, *, share, right=True):
    """Two moments; observed changes are so much of the predicted ones, the second moment's R_ill the wrong way if not right."""

    def steps(sign):
        found = []
        for size in recurrences.SIZES:
            told = {"size": size, "cosine": 0.5}
            found.append(step("ill", sign * share * size, share * size / 2, predicted=size) | told)
            found.append(step("well", -share * size, share * size, predicted=-size) | told)
        return [*found, step("ill, trained", 1.0, 1.0), step("well, trained", 1.0, 1.0), step("loss", 0.0, 0.0)]

    told = list(np.arange(1.0, 11))
    alone = {
        "ill": {"observed": [share * of for of in told], "predicted": told},
        "well": {"observed": told, "predicted": [*told[:4], *(2 * of for of in told[4:])]},
    }
    course = [{"primary": 1.0, "harmful": 1.0, "shared": 0.0, "steps": steps(sign)} for sign in (1, 1 if right else -1)]
    return {"subject": subject, "seed": seed, "course": course, "alone": alone}


@pytest.fixture
def records():
    exact = [record(EXACT, seed, share=1.0) for seed in range(2)]
    return [*exact, record("resnet20, 1 block", 0, share=0.1), record("resnet20, 1 block", 1, share=0.2, right=False)]


def test_steps_are_counted_by_their_sign_and_measured_by_what_was_predicted(records):
    table = tabulated(records)
    ill, well = (table["resnet20, 1 block"][f"{term} x1"] for term in ("ill", "well"))
    assert (ill.right, ill.of) == (3, 4)
    assert (well.right, well.of) == (4, 4)
    assert well.ratio.estimate == pytest.approx(0.15)
    assert well.other.estimate == pytest.approx(-1)
    assert ill.ratio.estimate == pytest.approx(0.05), "medians of 0.1 and of 0.2 and -0.2"
    trained = table["resnet20, 1 block"]["well, trained"]
    assert (trained.right, trained.of) == (0, 4)
    assert np.isnan(trained.ratio.estimate)
    assert set(table[EXACT]) == {*(f"{t} x{s:g}" for t in ("ill", "well") for s in recurrences.SIZES), *TRAINED}


TRAINED = {"ill, trained", "well, trained"}


def test_a_prediction_drifts_where_it_is_a_tenth_off(records):
    drift = drifts(records)
    assert drift[EXACT]["ill"]["drifted"] == 11
    assert drift[EXACT]["well"]["drifted"] == 5
    assert drift["resnet20, 1 block"]["ill"]["drifted"] == 1
    assert drift["resnet20, 1 block"]["ill"] == {"drifted": 1, "observed": pytest.approx(1.5), "predicted": 10}


def test_the_sentence_on_recurrences_has_the_figures(records):
    told = verdict(tabulated(records), drifts(records))
    assert "raises kappa_H in 3 of 4 steps (training's own slope of it in 4 of 4 steps)" in told
    assert "lowers kappa_P in 4 of 4 steps (training's own slope of it in 0 of 4 steps)" in told
    assert "is 0.05 along R_ill and 0.15 along R_well of the predicted one" in told
    assert "at step 1 along R_ill and 5 along R_well of 10" in told
    assert "exact" in told
    assert "exact" not in verdict(tabulated(records[2:]), drifts(records[2:]))


def courses(**ends):
    """From log kappa_H 20 to these."""
    rest = {"primary": 1.0, "shared": 1.0, "normal": 1.0, "lifted": 0.0}
    return [
        {"variant": name, "seed": seed, "course": [{"harmful": 20.0, **rest}, {"harmful": end, **rest}]}
        for name, end in ends.items()
        for seed in range(2)
    ]


ENDS = {
    "plain": 19.5,
    "R_well": 15.0,
    "R_ill": 19.9,
    "Algorithm 1": 14.0,
    "normalisation kept": 19.0,
    "normalisation left out": 21.0,
    "R_ill without K^-1": 22.0,
    "Algorithm 1 without K^-1": 21.0,
}


@pytest.mark.parametrize(
    ("changed", "normalisation", "preconditioner"),
    [
        ({}, "supported", "supported"),
        ({"R_well": 18.0}, "refuted", "supported"),
        ({"normalisation kept": 15.0}, "refuted", "supported"),
        ({"normalisation left out": 16.0}, "refuted", "supported"),
        ({"R_ill without K^-1": 19.0}, "supported", "refuted"),
        ({"R_ill": 20.5}, "supported", "refuted"),
        ({"normalisation left out": np.nan}, "undecided, since a training diverged", "supported"),
    ],
)
def test_an_explanation_is_supported_by_all_of_its_figures_or_refuted(changed, normalisation, preconditioner):
    told = guesses(by_variant(courses(**(ENDS | changed))))
    assert f"is {normalisation}: " in told["normalisation"]
    assert f"is {preconditioner}: " in told["preconditioner"]


def test_where_it_does_not_fall_there_is_nothing_to_explain():
    told = guesses(by_variant(courses(**(ENDS | {"Algorithm 1": 20.5}))))
    assert set(told) == {"normalisation"}
    assert "neither explanation can be tested" in told["normalisation"]
    assert guesses({}) == {}


@pytest.mark.slow
def test_linear_extractors_and_perceptrons_end_to_end(tmp_path, capsys, monkeypatch):
    arguments = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--seeds", "1", "--epochs", "2"]
    arguments += ["--subjects", EXACT, "linear, S^-1"]
    results = json.loads(recurrences.main(arguments).read_text())
    exact = results["steps"][EXACT]["ill x1"]
    assert exact["ratio"]["estimate"] == pytest.approx(1, rel=1e-6)
    assert exact["right"] == exact["of"] == 2
    assert results["steps"]["linear, S^-1"]["ill x1"]["ratio"]["estimate"] < 0.5
    assert results["verdict"]["recurrences"] in capsys.readouterr().out
    assert (tmp_path / "out/nonlinear_recurrences.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(recurrences, "_stepped", lambda *_, **__: pytest.fail("made again"))
    assert json.loads(recurrences.main(arguments).read_text()) == results
