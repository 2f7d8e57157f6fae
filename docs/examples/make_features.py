"""Writes two files of features to try `cimm` on: scikit-learn's digits behind random features, or generated classes.

    python docs/examples/make_features.py --out features               # digits 0 to 4, and 5 to 9: 901 and 896 rows of 64
    python docs/examples/make_features.py --out features --generated   # 10,000 rows of 512 features, 10 classes, each

A stand-in for what you have: whatever your own network gives for the inputs that it is for (primary.npz), and for those of the
task that it must not be turned to (harmful.npz).
"""

import argparse
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


def generated_features(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Classes around means of their own, in directions of very different length, as networks have them; shape (N, 512)."""
    rng, found = np.random.default_rng(seed), {}
    lengths = np.geomspace(3, 0.05, FEATURES)
    for name in ("primary", "harmful"):
        labels, means = rng.integers(0, CLASSES, ROWS), 0.3 * rng.normal(size=(CLASSES, FEATURES))
        features = (rng.normal(size=(ROWS, FEATURES)) + means[labels]) * lengths
        found[name] = features.astype(np.float32), labels
    return found


def main() -> None:
    """Writes primary.npz and harmful.npz, each with x and y."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("features"), help="folder for primary.npz and harmful.npz")
    parser.add_argument("--generated", action="store_true", help="generated classes instead of digits")
    parser.add_argument("--seed", type=int, default=0, help="seeds whatever is drawn")
    settings = parser.parse_args()
    settings.out.mkdir(parents=True, exist_ok=True)
    made = (generated_features if settings.generated else digit_features)(settings.seed)
    for name, (x, y) in made.items():
        np.savez(settings.out / f"{name}.npz", x=x, y=y)
        print(f"{settings.out / name}.npz: {len(x):,} rows of {x.shape[1]} features, {len(set(y.tolist()))} classes")


if __name__ == "__main__":
    main()
