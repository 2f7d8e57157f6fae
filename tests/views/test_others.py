"""The parts of the page on cimm immunize, diagnose and sweep."""

import pytest
from page_samples import Page, page_of, results_of


def page(results, drawn=False) -> Page:
    return Page(page_of(results, drawn=drawn)[0])


@pytest.fixture
def immunized():
    return results_of("immunize")


@pytest.fixture
def diagnosis():
    return results_of("diagnose")


@pytest.fixture
def sweep():
    return results_of("sweep")


def test_immunize_shows_the_verdict_of_each_part_with_its_reasons(immunized):
    immunized["verdict"]["train"]["immunized"] = True
    immunized["verdict"]["heldout"]["immunized"] = False
    shown = page(immunized)
    assert "By Definition 3.1: immunized on training rows, NOT immunized on held-out rows." in shown.text
    for verdict in immunized["verdict"].values():
        for reason in verdict["reasons"]:
            assert reason in shown.text


def test_immunize_claims_what_exact_line_search_needs(immunized):
    curves = immunized["excess_left"]["train"]
    curves["harmful undefended"] = [1.0, 0.9, 0.5, 0.25]
    curves["harmful immunized"] = [1.0, 0.9, 0.8, 0.7]
    shown = page(immunized).text
    assert (
        "on the harmful task, under a budget of 3 steps, by more than 1.5x to half; after 3 steps, 0.7 of the excess loss is "
        "left, undefended 0.25." in shown
    )
    curves["harmful immunized"] = [1.0, 0.5, 0.4, 0.3]
    assert "under a budget of 3 steps, by 0.5x to half" in page(immunized).text
    curves["harmful undefended"] = [1.0, 0.9, 0.9, 0.9]
    assert "by nothing that can be said" in page(immunized).text


def test_immunize_without_targets_claims_nothing(immunized):
    immunized["excess_left"] = {"train": {}, "heldout": {}}
    assert "The tasks have no targets" in page(immunized).text


def test_immunize_draws_the_course_only_of_a_method_that_has_one(immunized):
    assert len(page(immunized).attributes("alt")) == 3
    immunized["history"] = {name: values[:1] for name, values in immunized["history"].items()}
    assert len(page(immunized).attributes("alt")) == 2


def test_immunize_shows_intervals_under_the_policy_they_are_of(immunized):
    immunized["intervals"]["heldout"]["rir"] = [1.5, 2.5]
    shown = page(immunized)
    row = shown.alone.index("1.5 to 2.5")
    assert shown.alone[row - 5 : row - 3] == ["held-out", "PseudoInverse"]


@pytest.mark.parametrize(("verdict", "status"), [("immunizable", "good"), ("costly", "warn"), ("impossible", "bad")])
def test_diagnose_shows_verdict_and_reasons(diagnosis, verdict, status):
    diagnosis["diagnosis"]["verdict"] = verdict
    shown = page(diagnosis)
    assert f"The pair is {verdict}." in shown.text
    assert ("article", {"class": f"card {status}"}) in shown.tags
    for reason in diagnosis["diagnosis"]["reasons"]:
        assert reason in shown.alone


def test_diagnose_shows_every_budget_and_the_limit(diagnosis):
    diagnosis["diagnosis"]["limit"]["log_rir"] = 7.125
    shown = page(diagnosis)
    assert ("row", "1") in shown.headers
    assert ("row", "keep") in shown.headers
    assert "7.125" in shown.alone


def test_diagnose_without_targets_or_heldout_rows(diagnosis):
    record = diagnosis["diagnosis"]
    record.update(dict.fromkeys(("harmful_energy", "primary_energy", "protection", "sample_only", "undefended")))
    for row in record["budgets"]:
        row.update(heldout=None, harmful_left=None, slow_down=None)
    assert len(page(diagnosis, drawn=True).attributes("alt")) == 1


def test_sweep_counts_the_pairs_that_meet_the_definition(sweep):
    record = sweep["methods"]["ill_only"]
    for part, protected in (("train", 90), ("heldout", 45)):
        record[part].update(dict.fromkeys(("harmful_harder", "primary_as_easy"), [[True]] * 90))
        record[part]["primary_kept"] = [[index < protected] for index in range(90)]
    shown = page(sweep).text
    assert "ill_only protected 90 of 90 pairs on the rows it saw and 45 on held-out rows." in shown
    assert "ill_only 50 % (100 % on training rows)" in " ".join(shown.split())


def test_sweep_draws_a_map_a_method_and_part_and_survives_missing_numbers(sweep):
    sweep["methods"]["ill_only"]["train"]["rir"] = [[None]] * 5 + [[2.718281828]] * 85
    shown = page(sweep, drawn=True)
    assert len(shown.attributes("alt")) == 2
    assert "from 1.0 to 1.0" in shown.attributes("alt")[0]
    assert shown.alone[shown.alone.index("ill_only") + 1] == "1"
