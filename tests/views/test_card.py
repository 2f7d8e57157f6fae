"""The model card: front matter that hubs read, then everything that the page says, and no contradiction."""

import re
from itertools import pairwise

import pytest
from sample_records import (
    attack_record,
    immunize_record,
    network_attack_record,
    network_map_record,
    one_of_each_command,
    shown_records,
)

from cimm_jax.views.card import TAGS, model_card
from cimm_jax.views.registry import part_of
from cimm_jax.views.summary import summarise


def card_of(*records) -> str:
    return model_card(records, summarise(records), [part_of(record, "runs/one") for record in records])


def front_matter(card: str) -> dict[str, str | list[str]]:
    """What stands between the first two lines of three dashes: names with a text or with a list."""
    first, matter, _ = card.split("---\n", 2)
    assert first == ""
    found, name = {}, ""
    for line in matter.splitlines():
        if line.startswith("- "):
            found[name].append(line.removeprefix("- "))
            continue
        name, value = re.fullmatch(r"([a-z_]+): ?([\w-]*)", line).groups()
        assert name not in found
        found[name] = value or []
    return found


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_front_matter_parses(record):
    found = front_matter(card_of(record))
    assert found["library_name"] == "cimm_jax"
    assert found["tags"] == list(TAGS)
    assert all(re.fullmatch(r"[\w-]+", tag) for tag in TAGS)


def test_only_networks_classify_images():
    assert front_matter(card_of(network_map_record()))["pipeline_tag"] == "image-classification"
    assert "pipeline_tag" not in front_matter(card_of(attack_record()))
    assert "pipeline_tag" in front_matter(card_of(immunize_record(), network_attack_record()))


def test_headings_follow_one_another_from_the_first_level():
    levels = [len(line.split()[0]) for line in card_of(*one_of_each_command()).splitlines() if re.match("#+ ", line)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert levels.count(2) == 4 + 4, "the sections of the summary and the four runs"
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_summary_comes_first_and_claims_are_each_runs():
    card = card_of(immunize_record(), attack_record())
    for text in ("20 steps, 3 rates, 2 seeds, squared loss", "tamper-proof", "newton (1)", "pencil_no_slower"):
        assert text in card, text
    first = card.index("What is kept, what is blocked, against whom")
    assert first < card.index("## algorithm1 on digits") < card.index("## Attacks on digits")


@pytest.mark.parametrize("order", [1, -1])
def test_an_immunization_beside_its_attack_does_not_say_that_nobody_attacked(order):
    card = card_of(*[immunize_record(), attack_record()][::order])
    assert "No attacker was run" not in card
    assert "nobody: no attacker was run" not in card
    assert "No attacker was run" in card_of(immunize_record())


def test_every_table_row_has_as_many_cells_as_its_header():
    for record in shown_records():
        tables = re.findall(r"(?:^\|.*\|$\n?)+", card_of(record), re.MULTILINE)
        assert tables
        for table in tables:
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(counts) == 1, table
