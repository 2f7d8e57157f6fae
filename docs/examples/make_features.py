"""Writes two files of features to try `cimm` on: scikit-learn's digits behind random features, or generated classes.

    python docs/examples/make_features.py --out features               # digits 0 to 4, and 5 to 9: 901 and 896 rows of 64
    python docs/examples/make_features.py --out features --generated   # 10,000 rows of 512 features, 10 classes, each
    python docs/examples/make_features.py --out features --generated --rows 2000000 --features 256   # as .npy

A stand-in for what you have: whatever your own network gives for the inputs that it is for (primary), and for those of the
task that it must not be turned to (harmful). More than 10,000 generated rows become .npy files, which `cimm` reads in parts.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS, FEATURES, CLASSES = 10_000, 512, 10


def digit_features(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels through a random layer with ReLU, by task: features (N, 64) float32, and digits (N,)."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    rng = np.random.default_rng(seed)
    features = np.maximum(bunch.data / 16 @ rng.normal(size=(64, 64)), 0).astype(np.float32)
    primary = bunch.target < 5
    return {name: (features[rows], bunch.target[rows]) for name, rows in (("primary", primary), ("harmful", ~primary))}


def generated_chunks(seed: int, rows: int, features: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Classes around means of their own, in directions of very different length, as networks have them; in chunks."""
    rng = np.random.default_rng(seed)
    lengths, means = np.geomspace(3, 0.05, features), 0.3 * rng.normal(size=(CLASSES, features))
    for start in range(0, rows, ROWS):
        labels = rng.integers(0, CLASSES, min(ROWS, rows - start))
        x = (rng.normal(size=(len(labels), features)) + means[labels]) * lengths
        yield x.astype(np.float32), labels


def write_generated(folder: Path, seed: int, rows: int, features: int) -> None:
    """NAME.npz; of more than `ROWS` rows NAME.npy, with its labels beside it, written chunk by chunk."""
    for task, name in enumerate(("primary", "harmful")):
        chunks = generated_chunks(2 * seed + task, rows, features)
        if rows <= ROWS:
            x, labels = next(chunks)
            np.savez(folder / f"{name}.npz", x=x, y=labels)
            continue
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (rows, features))
        labels = np.empty(rows, np.int64)
        for place, (x, of) in enumerate(chunks):
            here = slice(place * ROWS, place * ROWS + len(x))
            file[here], labels[here] = x, of
        file.flush()
        np.save(folder / f"{name}.labels.npy", labels)


def main() -> None:
    """Writes both files, with features and labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("features"), help="folder for the files")
    parser.add_argument("--generated", action="store_true", help="generated classes instead of digits")
    parser.add_argument("--rows", type=int, default=ROWS, help="of each generated task")
    parser.add_argument("--features", type=int, default=FEATURES, help="of each generated row")
    parser.add_argument("--seed", type=int, default=0, help="seeds whatever is drawn")
    settings = parser.parse_args()
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.generated:
        write_generated(settings.out, settings.seed, settings.rows, settings.features)
        print(f"{settings.out}: {settings.rows:,} rows of {settings.features} features, {CLASSES} classes, each")
        return
    for name, (x, y) in digit_features(settings.seed).items():
        np.savez(settings.out / f"{name}.npz", x=x, y=y)
        print(f"{settings.out / name}.npz: {len(x):,} rows of {x.shape[1]} features, {len(set(y.tolist()))} classes")


if __name__ == "__main__":
    main()
