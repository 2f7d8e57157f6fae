"""Every field of every record is shown, or listed with the reason why not: change it, and the page changes or does not."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from generated import alternatives, fields_of, made, other
from pages import page_and_card, undrawn
from sample_records import changed, shown_records

from cimm_jax.runs.network_data import ImagePart
from cimm_jax.runs.records import RECORDS, Record, ReportRecord
from cimm_jax.views.registry import HIDDEN

TRIED = 12
"""Places that a field is changed at, at most, one after the other."""

CONSISTENT = {
    "DigitPair.primary": lambda digit: (digit + 1) % 10,
    "DigitPair.harmful": lambda digit: (digit + 1) % 10,
    "LadderRecord.peak_bytes": lambda memory: 2 * memory,
    "NetworkData.harmful_too": lambda _: {"harmful 2": {"train": examples()[ImagePart]}},
    "SeveralTasks.part": lambda part: "train" if part == "heldout" else "heldout",
    "SweepRecord.pairs": lambda pairs: pairs[::-1],
}
"""Other values where most make no sense."""


class Site(NamedTuple):
    """Where a field is in a sample, and what it is there."""

    sample: int
    path: tuple
    hint: Any
    value: Any


@cache
def reachable() -> list[str]:
    """Type.field of everything that a record can hold."""
    found, open_types = {}, [kind for kind in RECORDS.values() if kind is not ReportRecord]
    while open_types:
        hint = open_types.pop()
        named = fields_of(hint)
        if named and hint in found:
            continue
        if named:
            found[hint] = named
        open_types += [*named.values(), *([] if named else get_args(hint))]
    return [f"{kind.__name__}.{name}" for kind, named in found.items() for name in named]


def walk(value: Any, sample: int, path: tuple = ()) -> Iterator[tuple[str, Site]]:
    for name, hint in fields_of(type(value)).items():
        item = getattr(value, name)
        yield f"{type(value).__name__}.{name}", Site(sample, (*path, name), hint, item)
        yield from walk(item, sample, (*path, name))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, sample, (*path, key))
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        for place, item in enumerate(value):
            yield from walk(item, sample, (*path, place))


@cache
def sites() -> dict[str, list[Site]]:
    """Of every field, the places where it is in the samples."""
    found = defaultdict(list)
    for sample, record in enumerate(shown_records()):
        for name, site in walk(record, sample):
            found[name].append(site)
    return found


@cache
def examples() -> dict[Any, Any]:
    """A value of each type that has fields."""
    found = {}
    for site in (site for of in sites().values() for site in of):
        inner = site.value.values() if isinstance(site.value, dict) else (site.value,)
        found.update({type(value): value for value in inner if fields_of(type(value))})
    return found


@cache
def page(sample: int) -> str:
    return shown(shown_records()[sample])


def shown(record: Record) -> str:
    with undrawn():
        return page_and_card(record)[0]


def changes(name: str, site: Site) -> Iterator[Any]:
    """What else could be there: another value, and nothing instead of something or the other way around."""
    kinds = alternatives(site.hint)
    if site.value is None:
        kind = next(kind for kind in kinds if kind is not type(None))
        if fields_of(kind):
            yield examples()[kind]
        elif inner := [of for of in get_args(kind) if fields_of(of)]:
            yield {"train": examples()[inner[0]]}
        else:
            yield made(kind, np.random.default_rng(0))
        return
    if isinstance(site.value, tuple | dict) and not site.value and name not in CONSISTENT:
        yield next(value for seed in range(9) if (value := made(site.hint, np.random.default_rng(seed))))
        return
    yield CONSISTENT[name](site.value) if name in CONSISTENT else other(site.value)
    if type(None) in kinds:
        yield None
    if isinstance(site.value, tuple) and all(isinstance(item, str) for item in site.value):
        yield site.value[:-1]


def differing(name: str) -> Iterator[bool]:
    """Whether the page differs, for one change after the other."""
    of = sites()[name]
    for site in of[:: max(1, len(of) // TRIED)]:
        record = shown_records()[site.sample]
        for value in changes(name, site):
            yield shown(changed(record, *site.path, to=value)) != page(site.sample)


@pytest.mark.parametrize("name", reachable())
def test_it_is_shown_or_listed_with_the_reason(name):
    assert sites()[name], f"no sample holds {name}"
    if name in HIDDEN:
        assert not any(differing(name)), f"{name} is shown; take it off HIDDEN"
    else:
        assert any(differing(name)), f"{name} is not shown; show it, or list it in HIDDEN with the reason"


def test_what_is_hidden_exists_and_has_a_reason():
    assert set(HIDDEN) <= set(reachable())
    assert all(reason.strip() for reason in HIDDEN.values())
