"""The model card: Markdown with the front matter that model hubs read, of all runs together."""

from collections.abc import Sequence

from cimm_jax.runs.records import AttackRecord, ImmunizeRecord, LadderRecord, Record
from cimm_jax.views.blocks import Part
from cimm_jax.views.render.markdown import to_markdown

__all__ = ["TAGS", "model_card"]

TAGS = ("model-immunization", "cimm_jax")


def model_card(records: Sequence[Record], summary: Part, parts: Sequence[Part], loading: str = "") -> str:
    """Front matter, what all runs say together, how the weights are loaded, and then each run.

    Args:
      records: of the runs.
      summary: of them all.
      parts: what each run shows.
      loading: Markdown (`loading`) for a card beside weights.
    """
    body = [to_markdown(summary, level=1), *([loading] if loading else []), *(to_markdown(part) for part in parts)]
    return "\n".join(_front_matter(records)) + "\n\n" + "\n\n".join(body) + "\n"


def _front_matter(records: Sequence[Record]) -> list[str]:
    data = [record.network for record in records if isinstance(record, AttackRecord | ImmunizeRecord | LadderRecord)]
    inputs = {network.inputs for network in data if network is not None}
    kind = "text" if "texts" in inputs else "image" if "images" in inputs else "tabular"
    task = [f"pipeline_tag: {kind}-classification"] if inputs else []
    return ["---", "library_name: cimm_jax", *task, "tags:", *(f"- {tag}" for tag in TAGS), "---"]
