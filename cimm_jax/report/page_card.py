"""The model-card fragment: Markdown to paste, with what was protected, who broke it, the numbers, and the limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from cimm_jax.report.attack_facts import Claim, claims, prices
from cimm_jax.report.attack_words import CAVEAT, broken_by, cost_sentence, sentence, verdict
from cimm_jax.report.page_attack import data_name
from cimm_jax.report.page_blocks import Part


def model_card(runs: Sequence[tuple[Mapping[str, Any], Part]]) -> str:
    """One section for each run: its results and what the page shows of it."""
    fragments = [
        _attack(results) if results["command"] == "attack" else _other(results, part) for results, part in runs
    ]
    return "\n".join(["# Model immunization\n", *fragments])


def _attack(results: Mapping[str, Any]) -> str:
    cost = prices(results)
    lines = [f"## Attacks on {_text(data_name(results))}\n"]
    for claim in claims(results):
        lines.append(f"- {_code(claim.extractor)} {_text(_claim(claim, results))}")
        price = cost_sentence(claim.extractor, cost)
        lines += [f"  {_text(price)}"] if price else []
    budget = results["budget"]
    lines.append(f"\nAttackers: {_text(', '.join(budget['finished']))}.\n")
    lines.append(f"Limits: {CAVEAT}\n")
    return "\n".join([*lines, _made(results)])


def _claim(claim: Claim, results: Mapping[str, Any]) -> str:
    if claim.slow_down is None:
        return sentence(claim, results)
    return f"{verdict(claim)} {sentence(claim, results)} Broken by (steps): {broken_by(claim)}."


def _other(results: Mapping[str, Any], part: Part) -> str:
    limits = "Limits: no attacker was run; a condition number alone slows nobody, and nothing here is tamper-proof.\n"
    return "\n".join([f"## {_text(part.title)}\n", f"{_text(part.headline)}\n", limits, _made(results)])


def _made(results: Mapping[str, Any]) -> str:
    versions = results["versions"]
    return (
        f"Made by `cimm {results['command']}`, cimm_jax {_text(versions['cimm_jax'])}, jax {_text(versions['jax'])}, "
        f"seed {results['settings']['seed']}.\n"
    )


def _text(text: str) -> str:
    """Without HTML, on one line."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def _code(name: str) -> str:
    """A name as code, whatever is in it."""
    return f"`{' '.join(name.replace('`', chr(39)).split())}`"
