"""What the results of `cimm attack` say, as facts that the terminal, the page and the model card share.

They are read from `results.json` as it was written: a number that JSON has no word for (infinite steps, an accuracy where
there are no classes) is None.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

UNDEFENDED = "undefended"
LINE_SEARCH = "line_search"

Records = Mapping[str, Mapping[str, Any]]
"""One task: outcomes by attacker, of one extractor."""


class Breach(NamedTuple):
    """An attacker who learns at least half of what the best undefended attacker does.

    Attributes:
      attacker: name.
      adaptive: whether he goes beyond gradients on the features as they are.
      steps: to that half.
      left: excess loss he leaves in the end.
      heldout: whether he does so on held-out rows as well.
    """

    attacker: str
    adaptive: bool
    steps: float
    left: float
    heldout: bool


class Claim(NamedTuple):
    """What one extractor is worth against attackers who take its features as they are and follow gradients.

    Attributes:
      extractor: name.
      attacker: the best of them at the end.
      left: excess loss he leaves on the rows fitted.
      undefended_attacker: the best of them on the undefended extractor.
      undefended_left: what he leaves.
      heldout_left: loss left on held-out rows by the best of them there, as `heldout_loss` says.
      undefended_heldout_left: the same undefended.
      slow_down: steps that the fastest of them needs to half of what can be learned, over undefended; None if he learns nothing
        undefended. A lower bound if `never`.
      never: nobody gets there in the steps given.
      broken_by: every attacker of either kind who does, the fastest first.
    """

    extractor: str
    attacker: str
    left: float
    undefended_attacker: str
    undefended_left: float
    heldout_left: float
    undefended_heldout_left: float
    slow_down: float | None
    never: bool
    broken_by: tuple[Breach, ...]


class Price(NamedTuple):
    """How fast and how well another task is still learned; shares left by gradient attackers, of the task itself.

    Attributes:
      task: primary or benign.
      extractor: name.
      line_search: excess loss left by exact line search at the end, None if it was not run.
      best: left by the best attacker.
      heldout: held-out loss left by the best attacker there.
      accuracy: best held-out accuracy, None where targets are not classes.
      slow_down: steps to half of what can be learned, over undefended, of the fastest attacker; None if never.
    """

    task: str
    extractor: str
    line_search: float | None
    best: float
    heldout: float
    accuracy: float | None
    slow_down: float | None


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """One claim for each extractor but the undefended one."""
    harmful = results["tasks"]["harmful"]
    undefended = _followers(harmful[UNDEFENDED])
    found = []
    for extractor, records in harmful.items():
        if extractor == UNDEFENDED:
            continue
        followers = _followers(records)
        best, best_undefended = (_least(members, _left) for members in (followers, undefended))
        steps, base = _fastest(followers), _fastest(undefended)
        reached = results["records"][-1] if steps is None else steps
        found.append(
            Claim(
                extractor,
                best,
                _left(followers[best]),
                best_undefended,
                _left(undefended[best_undefended]),
                min(map(_heldout_left, followers.values())),
                min(map(_heldout_left, undefended.values())),
                None if base is None else reached / base,
                steps is None,
                _broken_by(records),
            )
        )
    return found


def prices(results: Mapping[str, Any]) -> list[Price]:
    """What every extractor, the undefended one first, does to the primary and the benign task."""
    return [
        _price(task, extractor, _followers(records), _followers(by_extractor[UNDEFENDED]))
        for task, by_extractor in results["tasks"].items()
        if task != "harmful"
        for extractor, records in by_extractor.items()
    ]


def attackers(results: Mapping[str, Any]) -> list[str]:
    """Names of the attackers that were run, those who follow gradients first."""
    records = results["tasks"]["harmful"][UNDEFENDED]
    return sorted(records, key=lambda name: records[name]["adaptive"])


def heldout_loss(results: Mapping[str, Any]) -> str:
    """What held-out numbers are shares of; networks are judged by the images that are classified wrongly."""
    return "errors, over those of guessing" if "deep" in results else "loss, over that of a zero probe"


def _price(task: str, extractor: str, followers: Records, undefended: Records) -> Price:
    steps, base = _fastest(followers), _fastest(undefended)
    accuracies = [record["accuracy"]["mean"] for record in followers.values()]
    return Price(
        task,
        extractor,
        _left(followers[LINE_SEARCH]) if LINE_SEARCH in followers else None,
        min(map(_left, followers.values())),
        min(map(_heldout_left, followers.values())),
        None if None in accuracies else max(accuracies),
        None if steps is None or base is None else steps / base,
    )


def _followers(records: Records) -> Records:
    """Those who follow gradients; all if there are none."""
    return {name: record for name, record in records.items() if not record["adaptive"]} or records


def _broken_by(records: Records) -> tuple[Breach, ...]:
    breaches = [
        Breach(name, record["adaptive"], record["steps"][0], _left(record), record["breaks_heldout"])
        for name, record in records.items()
        if record["breaks"]
    ]
    return tuple(sorted(breaches, key=lambda breach: (breach.steps, breach.left)))


def _fastest(records: Records) -> float | None:
    """Least number of steps to half of what the best undefended attacker learns; None if nobody gets there."""
    return min((r["steps"][0] for r in records.values() if r["steps"][0] is not None), default=None)


def _least(records: Records, value: Callable[[Mapping[str, Any]], float]) -> str:
    return min(records, key=lambda name: value(records[name]))


def _left(record: Mapping[str, Any]) -> float:
    """Excess loss left; everything, if every rate diverged."""
    return 1.0 if record["left"]["mean"] is None else max(0.0, record["left"]["mean"])


def _heldout_left(record: Mapping[str, Any]) -> float:
    return 1.0 if record["heldout_left"]["mean"] is None else record["heldout_left"]["mean"]
