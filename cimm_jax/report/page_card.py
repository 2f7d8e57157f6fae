"""The model-card fragment: Markdown to paste, with what was protected, who broke it, the numbers, and the limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from cimm_jax.report.attack_facts import UNDEFENDED, Breach, Claim, Price, claims, heldout_loss, prices
from cimm_jax.report.attack_words import CAVEAT, budget_text, sentence, slow_down_text, times, verdict
from cimm_jax.report.page_attack import data_name, kind_of
from cimm_jax.report.page_blocks import Part
from cimm_jax.report.tables import format_number

COLUMNS = (
    *("extractor", "broken by gradient followers", "broken by adaptive attackers", "gradient followers slowed"),
    *("harmful loss left", "held-out", "primary task slowed", "primary held-out"),
)


def model_card(runs: Sequence[tuple[Mapping[str, Any], Part]]) -> str:
    """One section for each run: its results and what the page shows of it."""
    fragments = [
        _attack(results) if results["command"] == "attack" else _other(results, part) for results, part in runs
    ]
    return "\n\n".join(["# Model immunization", *fragments]) + "\n"


def _attack(results: Mapping[str, Any]) -> str:
    found, cost = claims(results), prices(results)
    attackers = results["budget"]["finished"]
    paragraphs = [
        f"## Attacks on {_text(data_name(results))}",
        "Linear probes on frozen features learned the harmful task. Broken: who learned half of what the best attacker learns "
        f"undefended, and the first of them with his steps. Held-out: {heldout_loss(results)}. In brackets behind losses: "
        "undefended.",
        _table([COLUMNS, *(_row(claim, cost) for claim in found)]),
        *(
            f"{_code(claim.extractor)} {_text(_claim(claim, results))}"
            for claim in found
            if kind_of(claim) != "gradient"
        ),
        f"Budget: {budget_text(results)}. Attackers: {_text(', '.join(attackers))}.",
        f"Limits: {CAVEAT}",
        _made(results),
    ]
    return "\n\n".join(paragraphs)


def _row(claim: Claim, cost: Sequence[Price]) -> list[str]:
    row = [
        _code(claim.extractor),
        *(_breaches([breach for breach in claim.broken_by if breach.adaptive == kind]) for kind in (False, True)),
        slow_down_text(claim),
        _beside(claim.left, claim.undefended_left),
        _beside(claim.heldout_left, claim.undefended_heldout_left),
    ]
    primary = {price.extractor: price for price in cost if price.task == "primary"}
    if claim.extractor not in primary:
        return [*row, "not measured", "not measured"]
    price = primary[claim.extractor]
    slowed = "never half way" if price.slow_down is None else times(price.slow_down)
    return [*row, slowed, _beside(price.heldout, primary[UNDEFENDED].heldout)]


def _breaches(breaches: Sequence[Breach]) -> str:
    return f"{len(breaches)}: {_text(breaches[0].attacker)} ({breaches[0].steps:.0f})" if breaches else "none"


def _claim(claim: Claim, results: Mapping[str, Any]) -> str:
    if claim.slow_down is None:
        return f"has nothing to protect. {sentence(claim, results)}"
    return f"{verdict(claim)} {sentence(claim, results)}"


def _other(results: Mapping[str, Any], part: Part) -> str:
    limits = "Limits: no attacker was run; a condition number alone slows nobody, and nothing here is tamper-proof."
    return "\n\n".join([f"## {_text(part.title)}", _text(part.headline), limits, _made(results)])


def _made(results: Mapping[str, Any]) -> str:
    versions = results["versions"]
    return (
        f"Made by `cimm {results['command']}`, cimm_jax {_text(versions['cimm_jax'])}, jax {_text(versions['jax'])}, "
        f"seed {results['settings']['seed']}."
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([header, f"|{'---|' * len(rows[0])}", *body])


def _beside(value: float, undefended: float) -> str:
    return f"{format_number(value)} ({format_number(undefended)})"


def _text(text: str) -> str:
    """Without HTML, on one line."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def _code(name: str) -> str:
    """A name as code, whatever is in it."""
    return f"`{' '.join(name.replace('`', chr(39)).split())}`"
