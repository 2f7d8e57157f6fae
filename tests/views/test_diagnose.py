"""The part of a diagnosis: verdict and reasons, what a budget buys, the limit, and how the ridge was chosen."""

import numpy as np
import pytest
from pages import undrawn_page
from sample_records import changed, diagnose_record

from cimm_jax.views.diagnose import diagnose_part


def cells_from(page, *cells) -> list[str]:
    place = next(at for at in range(len(page.alone)) if page.alone[at : at + len(cells)] == list(cells))
    return page.alone[place:]


@pytest.mark.parametrize(("verdict", "status"), [("immunizable", "good"), ("costly", "warn"), ("impossible", "bad")])
def test_verdict_and_reasons(verdict, status):
    record = changed(diagnose_record(), "diagnosis", "verdict", to=verdict)
    part, page = diagnose_part(record), undrawn_page(record)
    assert (part.headline, part.status) == (f"The pair is {verdict}.", status)
    assert part.headline in page.text
    assert ("article", {"class": f"card {status}"}) in page.tags
    assert f"{verdict} by a linear extractor" in page.alone
    assert "The pair: Because of this. And of that." in page.alone


def test_every_budget_is_a_row():
    record = changed(diagnose_record(), "diagnosis", "budgets", 0, "budget", to=1e6)
    page = undrawn_page(record)
    assert ("row", "1e+06") in page.headers
    assert ("row", "keep") in page.headers
    assert cells_from(page, "keep")[1:8] == ["1", "10", "0.5", "2.197", "2.89", "0.9", "1.5"]
    assert cells_from(page, "keep", "training")[1:5] == ["training", "18", "2", "9"]


def test_the_limit_and_the_directions_it_rests_on():
    record = changed(diagnose_record(), "diagnosis", "limit", "log_rir", to=7.125)
    page = undrawn_page(record)
    for text in ("7.125", "infinite", "100", "50", "60", "10.0 to 80.0"):
        assert text in page.alone, text
    unresolved = changed(record, "diagnosis", "limit", "resolved", to=np.asarray(False))
    assert "NO" in undrawn_page(unresolved).alone
    alone = changed(record, "diagnosis", "limit", "harmful_only", to=np.asarray(False))
    assert "1, none" in undrawn_page(alone).alone


def test_how_the_ridge_was_chosen_only_if_it_was():
    page = undrawn_page(diagnose_record())
    assert "chosen: the least within one standard error of the best" in page.text
    assert "1.000e-06" in page.alone
    assert "How the ridge" not in undrawn_page(changed(diagnose_record(), "diagnosis", "ridge_path", to=None)).text


def test_without_targets_or_held_out_rows():
    record = diagnose_record()
    for field in ("harmful_energy", "primary_energy", "protection", "sample_only", "undefended"):
        record = changed(record, "diagnosis", field, to=None)
    for row in (0, 1):
        for field in ("heldout", "harmful_left", "slow_down"):
            record = changed(record, "diagnosis", "budgets", row, field, to=None)
    page = undrawn_page(record)
    assert len(diagnose_part(record).figures) == 2
    assert cells_from(page, "keep")[1:8] == ["1", "10", "0.5", "2.197", "-", "-", "-"]
    assert "energy of the harmful labels" not in page.text
    assert "held-out" not in page.alone


def test_pictures_say_what_they_show():
    spectrum, front, angles = diagnose_part(diagnose_record()).figures
    assert "4 pencil directions, from 10 to 0.01" in spectrum.alt
    assert (
        "the first 2 hold 50\N{NO-BREAK SPACE}% of the energy of the harmful labels and 0\N{NO-BREAK SPACE}%"
        in spectrum.alt
    )
    assert (
        "with no slow-down, 0.8 is left; the best allocations go from 0.2 at 0.1 times to 0.9 at 10 times." in front.alt
    )
    assert "the diagonal sums to 1.50 of 2, and the largest is 0.50" in angles.alt


def test_it_says_that_nobody_attacked():
    assert "Nothing was trained and nobody attacked" in undrawn_page(diagnose_record()).text
