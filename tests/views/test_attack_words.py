"""Facts, words and pictures of an attack, on results made by hand."""

import copy

import pytest

from cimm_jax.report.attack import attack_plot
from cimm_jax.report.attack_facts import attackers, claims, prices
from cimm_jax.report.attack_words import attack_paragraphs, broken_by, cell, print_attack, slow_down_text, verdict


def record(left, steps, *, adaptive=False, breaks=False, heldout=0.5, accuracy=None):
    return {
        "adaptive": adaptive,
        "left": {"mean": left, "low": left, "high": left},
        "heldout_left": {"mean": heldout, "low": heldout, "high": heldout},
        "accuracy": {"mean": accuracy, "low": accuracy, "high": accuracy},
        "steps": [steps, None, None],
        "breaks": breaks,
        "breaks_heldout": breaks,
        "curve": [1.0, left],
    }


@pytest.fixture
def results():
    undefended = {
        "newton": record(0.0, 1, adaptive=True, breaks=True),
        "line_search": record(0.1, 20, breaks=True, heldout=0.3),
        "adam": record(0.05, 10, breaks=True, heldout=0.2),
    }
    protected = {
        "newton": record(0.0, 1, adaptive=True, breaks=True),
        "line_search": record(0.9, None, heldout=0.95),
        "adam": record(0.8, None, heldout=0.97),
    }
    broken = {
        "newton": record(0.0, 1, adaptive=True, breaks=True),
        "line_search": record(0.3, 80, breaks=True),
        "adam": record(None, None),
    }
    other = {
        name: {"line_search": record(0.2, 30), "adam": record(0.1, steps)} for name, steps in (("a", 15), ("b", None))
    }
    base = {
        "line_search": record(0.02, 12, heldout=0.1, accuracy=0.9),
        "adam": record(0.01, 6, heldout=0.2, accuracy=0.8),
    }
    return {
        "records": [1, 1000],
        "budget": {"steps": 1000, "rates": {"adam": [0.1, 1.0]}, "seeds": 5, "loss": "squared"},
        "tasks": {
            "harmful": {"undefended": undefended, "protected": protected, "broken": broken},
            "primary": {"undefended": base, "protected": other["a"], "broken": other["b"]},
        },
        "best_so_far": {name: {"gradient": [0.9, 0.5], "all": [0.5]} for name in ("undefended", "protected", "broken")},
    }


def test_claims_compare_the_best_follower_of_gradients_with_the_best_undefended_one(results):
    protected, broken = claims(results)
    assert (protected.attacker, protected.left) == ("adam", 0.8)
    assert (protected.undefended_attacker, protected.undefended_left) == ("adam", 0.05)
    assert (protected.heldout_left, protected.undefended_heldout_left) == (0.95, 0.2)
    assert protected.never
    assert protected.slow_down == 100, "1,000 steps were not enough, and the fastest needed 10 undefended"
    assert not broken.never
    assert broken.slow_down == 8
    assert broken.attacker == "line_search", "a diverged attacker is never the best"


def test_breaches_are_listed_fastest_first_and_say_who_goes_beyond_gradients(results):
    protected, broken = claims(results)
    assert [breach.attacker for breach in protected.broken_by] == ["newton"]
    assert [(b.attacker, b.adaptive, b.steps) for b in broken.broken_by] == [
        ("newton", True, 1),
        ("line_search", False, 80),
    ]
    assert broken_by(broken) == "newton (1), line_search (80)"


def test_verdicts_tell_followers_of_gradients_from_those_who_know_better(results):
    protected, broken = claims(results)
    assert verdict(protected).startswith("protects against every attacker here who follows gradients")
    assert "newton breaks it in one step" in verdict(protected)
    assert verdict(broken) == "does not protect. line_search breaks it, as it comes, in 80 steps."
    assert verdict(protected._replace(broken_by=())) == "was broken by none of these attackers."
    assert slow_down_text(protected) == "more than 100x"
    assert slow_down_text(broken) == "8x"


def test_an_extractor_that_gives_nothing_away_undefended_is_not_called_protected(results):
    for name in ("line_search", "adam"):
        results["tasks"]["harmful"]["undefended"][name]["steps"] = [None, None, None]
    protected = claims(results)[0]
    assert protected.slow_down is None
    assert slow_down_text(protected) == "-"
    assert any("nothing to protect" in paragraph for paragraph in attack_paragraphs(results))


def test_prices_are_of_the_task_itself_against_undefended(results):
    undefended, protected, broken = prices(results)
    assert (undefended.slow_down, undefended.accuracy) == (1, 0.9)
    assert (undefended.heldout, undefended.line_search, undefended.best) == (0.1, 0.02, 0.01)
    assert protected.slow_down == 2.5
    assert protected.accuracy is None, "no classes"
    assert broken.slow_down == 5
    paragraph = attack_paragraphs(results)[0]
    assert "the primary task gets half way in 2.5 times the steps" in paragraph


def test_only_adaptive_attackers_are_compared_among_themselves(results):
    for extractors in results["tasks"].values():
        for records in extractors.values():
            for name in list(records):
                if name != "newton" and "newton" in records:
                    del records[name]
    assert claims(results)[0].attacker == "newton"


def test_cells_say_never_and_diverged():
    assert cell(record(0.5, None)) == "0.5 (never)"
    assert cell(record(-1e-17, 3)) == "0 (3)"
    assert cell(record(None, None)) == "diverged"


def test_everything_is_printed(results, capsys):
    print_attack(results)
    printed = capsys.readouterr().out
    for expected in (
        *attackers(results),
        "protected",
        "diverged",
        "never",
        "1000 steps, 2 rates, 5 seeds",
        "the price",
    ):
        assert expected in printed
    assert attackers(results)[-1] == "newton", "followers of gradients first"


def test_the_picture_takes_diverged_attackers_and_no_line_search(results):
    assert attack_plot(results).startswith(b"\x89PNG")
    without = copy.deepcopy(results)
    for records in without["tasks"]["harmful"].values():
        del records["line_search"]
    assert attack_plot(without).startswith(b"\x89PNG")
