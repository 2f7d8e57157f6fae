"""What a network's features were made from, and what was left out of it."""

from dataclasses import replace

from sample_records import network_map_record

from cimm_jax.runs.network_data import ImagePart
from cimm_jax.views.tables import network_facts


def told(part: ImagePart) -> str:
    network = network_map_record().network
    assert network is not None
    (facts,) = network_facts(replace(network, primary={"train": part}))
    return dict(facts.facts)["primary, training"]


def test_files_that_were_skipped_are_named_with_their_reasons():
    names = tuple(f"{letter}.png: no image" for letter in "abcde")
    part = ImagePart(36, 3, "a0", 7, 1, names)
    assert told(part) == (
        "36 images of 3 classes; 7 could not be decoded and were skipped (a.png: no image; b.png: no image; "
        "c.png: no image; d.png: no image; e.png: no image; 2 more)"
    )
    one = told(replace(part, skipped=1, skipped_files=names[:1]))
    assert one.endswith("; 1 could not be decoded and were skipped (a.png: no image)")
    assert told(replace(part, skipped=0, skipped_files=())) == "36 images of 3 classes"
