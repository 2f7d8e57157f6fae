"""The part of the page on an attack: who broke what first, then claims, figures, tables, and what is left open."""

import pytest
from page_samples import ATTACKERS, EXTRACTORS, Page, page_of, results_of

from cimm_jax.attacks import STANDARD
from cimm_jax.report.attack_facts import claims
from cimm_jax.report.attack_words import sentence


@pytest.fixture
def results():
    return results_of("attack")


def page(results, drawn=False) -> Page:
    return Page(page_of(results, drawn=drawn)[0])


def set_breaks(results, extractor, names, steps=7.0):
    for name, record in results["tasks"]["harmful"][extractor].items():
        record["breaks"] = record["breaks_heldout"] = name in names
        record["steps"] = [steps if name in names else None] * 3


def card_labels(results) -> list[str]:
    shown = page(results)
    chips = [index for index, (_, attributes) in enumerate(shown.tags) if "chip" in attributes.get("class", "")]
    return [shown.tags[index][1]["class"].split()[1] for index in chips]


def test_sections_come_in_the_order_that_keeps_claims_honest(results):
    titles = [text for level, text in page(results).headings if level == 3]
    assert titles == [
        *("Verdict", "Broken by", "Claims", "Figures", "What each attacker leaves", "On held-out rows", "RFD and SGR"),
        *("Condition numbers", "The price to other tasks", "Price in words", "Not measured", "Manifest"),
    ]


def test_every_attacker_and_extractor_heads_a_row_or_a_column_of_each_table(results):
    headers = page(results).headers
    for name in ATTACKERS:
        assert headers.count(("row", name)) == 3, name
    for name in EXTRACTORS[1:]:
        assert headers.count(("col", name)) == 3, name
        assert headers.count(("rowgroup", name)) == 1, name
    assert headers.count(("col", "undefended")) == 2, "it does not deviate from itself"


def test_claims_are_those_of_the_terminal(results):
    shown = page(results).alone
    for claim in claims(results):
        assert f"{claim.extractor} {sentence(claim, results).removeprefix('It ')}" in shown
        assert "slows the best attacker" in sentence(claim, results)


@pytest.mark.parametrize(
    ("names", "status", "headline"),
    [
        (("adam", "newton"), "bad", "1 broken by gradient followers"),
        (("newton",), "warn", "1 broken by adaptive attackers only"),
        ((), "good", "1 broken by none of these attackers"),
    ],
)
def test_gradient_followers_and_adaptive_attackers_are_told_apart(results, names, status, headline):
    del results["tasks"]["harmful"]["pencil_no_slower"]
    set_breaks(results, "pencil", names)
    assert card_labels(results) == [status]
    shown = page(results)
    assert f"Of 1 immunized extractor: {headline}." in shown.text
    assert ("adam (7)" in shown.alone) == ("adam" in names)
    assert ("newton (7)" in shown.alone) == ("newton" in names)


def test_nothing_learned_undefended_is_nothing_to_protect(results):
    for extractor in EXTRACTORS:
        set_breaks(results, extractor, ())
    assert card_labels(results) == ["neutral", "neutral"]


def test_a_break_on_rows_fitted_only_is_marked(results):
    set_breaks(results, "pencil", ("newton",))
    assert "†" not in "".join(text for text in page(results).alone if text.startswith("newton"))
    results["tasks"]["harmful"]["pencil"]["newton"]["breaks_heldout"] = False
    assert "newton† (7)" in page(results).alone


def test_a_cell_holds_loss_steps_interval_and_marks(results):
    record = results["tasks"]["harmful"]["pencil"]["sgd"]
    record.update(
        left={"mean": 0.25, "low": 0.125, "high": 0.375}, steps=[3.0, 14.0, None], rate_at_edge=True, diverged=1 / 3
    )
    assert "0.253 / 14 / never0.12 to 0.3833 % divergededge" in page(results).alone
    record.update(left={"mean": 0.25, "low": 0.25, "high": 0.25}, steps=[None] * 3, rate_at_edge=False, diverged=0.0)
    record["breaks"] = False
    assert "0.25never" in page(results).alone


def test_divergence_at_every_rate_is_said_and_drawn(results):
    record = results["tasks"]["harmful"]["pencil"]["line_search"]
    record.update(left=dict.fromkeys(("mean", "low", "high")), curve=[None] * len(record["curve"]))
    record["heldout_left"] = record["accuracy"] = dict.fromkeys(("mean", "low", "high"))
    shown = page(results, drawn=True)
    assert shown.alone.count("diverged") == 2
    assert any("pencil diverged" in alt for alt in shown.attributes("alt"))


def test_deviation_is_signed_and_absolute_mean_and_final(results):
    record = results["tasks"]["harmful"]["pencil"]["adam"]
    record["deviation"] = {"signed_mean": -12.34, "absolute_mean": 43.21, "signed_final": 5.0, "absolute_final": 6.0}
    record["gap"] = 0.05
    assert "-12.3 → +5.0absolute 43.2 → 6.0SGR 0.050" in page(results).alone
    record.update(deviation=None, gap=None)
    assert "SGR 0.050" not in page(results).text


def test_condition_numbers_name_policy_ranks_floor_and_share_of_the_limit(results):
    part = results["extractors"]["pencil"]["heldout"]
    part["limit"]["share"] = 0.123
    released = part["ratios"]["ReleasedCode"]
    released.update(rir=1234.5, harmful_ratio=2469.0, primary_ratio=2.0)
    released["harmful"].update(rank=31, floored=True)
    released["harmful_reference"]["rank"] = 29
    cells = page(results).alone
    assert "12.3 %" in cells
    row = cells.index("1234")
    assert cells[row - 4 : row] == ["held-out", "ReleasedCode", "2469", "2"]
    assert cells[row + 1 : row + 3] == ["", "31before 29"], "no share under a policy that the limit is not about"
    assert cells[row + 4] == "yes"


def test_what_was_not_measured_is_named(results):
    shown = page(results).text
    for name in set(STANDARD) - set(ATTACKERS):
        assert name in shown, name
    assert "Spread over seeds" not in shown
    assert "The run was interrupted" not in shown
    results["budget"].update(seeds=1, attackers=[*ATTACKERS, "muon"])
    results["tasks"]["harmful"]["pencil"]["adam"]["rate_at_edge"] = True
    shown = page(results).text
    assert "Spread over seeds" in shown
    assert "The run was interrupted before muon." in shown
    assert "edge of the grid for adam" in shown


def test_accuracy_is_shown_only_of_classes(results):
    results["tasks"]["harmful"]["pencil"]["adam"]["accuracy"]["mean"] = 0.625
    assert "accuracy 62.5 %" in page(results).text
    results["classes"] = False
    assert "62.5" not in page(results).text


def test_an_interrupted_run_is_shown_as_far_as_it_came(results):
    del results["tasks"]["benign"]
    for records in results["tasks"]["primary"].values():
        del records["newton"], records["line_search"]
    results["budget"]["finished"] = list(ATTACKERS)[:-1]
    shown = page(results, drawn=True)
    assert "The price to the benign task." in shown.text
    assert "The run was interrupted before line_search and newton." in shown.text
    assert any("primary task" in alt and "adam" in alt for alt in shown.attributes("alt")), "no line search there"


def test_only_the_undefended_extractor_claims_nothing(results):
    for task in results["tasks"].values():
        del task["pencil"], task["pencil_no_slower"]
    for name in ("pencil", "pencil_no_slower"):
        del results["extractors"][name], results["best_so_far"][name]
    assert "there is nothing to claim" in page(results, drawn=True).text


def test_every_figure_says_in_words_what_it_shows(results):
    results["tasks"]["harmful"]["pencil"]["line_search"]["curve"][-1] = 0.0625
    results["best_so_far"]["pencil"]["gradient"][-1] = 0.03125
    alts = page(results).attributes("alt")
    assert len(alts) == 4
    assert "pencil 0.062" in alts[0]
    assert "pencil 0.031" in alts[2]
