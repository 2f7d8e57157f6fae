"""The page: runs of every kind as one HTML document that needs no network and no script."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from cimm_jax.report.page_attack import attack_part
from cimm_jax.report.page_blocks import Code, Part, Section
from cimm_jax.report.page_card import model_card
from cimm_jax.report.page_diagnose import diagnose_part
from cimm_jax.report.page_immunize import immunize_part
from cimm_jax.report.page_manifest import manifest_sections
from cimm_jax.report.page_sweep import sweep_part
from cimm_jax.report.page_text import breakable, prose
from cimm_jax.report.tables import format_number

if TYPE_CHECKING:
    from jinja2 import Template

PARTS: Mapping[str, Callable[[Mapping[str, Any], str], Part]] = {
    "attack": attack_part,
    "diagnose": diagnose_part,
    "immunize": immunize_part,
    "sweep": sweep_part,
}
"""The kinds of run that a page can show."""


class Run(NamedTuple):
    """A run to be shown.

    Attributes:
      folder: as it was given.
      results: its results.json, of one of the kinds of `PARTS`.
      command_line: what makes it again.
    """

    folder: str
    results: Mapping[str, Any]
    command_line: str


def part_of(run: Run) -> Part:
    """What is shown of one run, its manifest last."""
    part = PARTS[run.results["command"]](run.results, run.folder)
    manifest = manifest_sections(run.results, run.command_line)
    return Part(part.title, part.folder, part.headline, part.status, [*part.sections, *manifest])


def render(parts: Sequence[Part], card: str, version: str) -> str:
    """HTML of the parts in order and the model card; the same for the same input."""
    card_section = Section("Model card fragment", [Code(card)])
    return _template().render(parts=parts, card=card_section, version=version)


def card_of(runs: Sequence[Run], parts: Sequence[Part]) -> str:
    """The model card fragment of all runs."""
    return model_card([(run.results, part) for run, part in zip(runs, parts, strict=True)])


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cimm_jax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=format_number, breakable=breakable, prose=prose)
    return environment.get_template("page.html")
