"""Figure 2 of the paper: log RIR of every ordered pair of MNIST digits as heat maps, beside the published 90 values.

Reads what `experiments.table2_mnist` wrote; nothing is trained here. For every method of that run: the map under `ReleasedCode`
and the map by the definition, each with Spearman's rho against the published values of the paper's method, as they are
printed and with their axes exchanged: our runs agree with the second (docs/results.md).

    python -m experiments.figure2 [--runs runs/table2] [--out runs/figure2]
    cimm reproduce figure2

Result: docs/results.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.views.draw.heatmap import heatmap_grid
from cimm_jax.views.render.picture import png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.common import drawing_parser
from experiments.published import FIGURE_2
from experiments.table2_mnist import read

MEASURES = {"released_rir": "ReleasedCode", "rir": "PseudoInverse"}


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draws one picture a policy, correlates, prints the table; returns results.json."""
    settings = drawing_parser(__doc__, runs="runs/table2", out="runs/figure2").parse_args(arguments)
    runs = read(settings.runs)
    folder = output_folder(settings.out)
    rows, records = [], {}
    for measure, policy in MEASURES.items():
        maps = {name: _map(found, measure) for name, found in runs.items()}
        drawing = heatmap_grid({"published, paper's method": FIGURE_2, **maps}, colour_label=f"log RIR, {policy}")
        write_whole(folder / f"figure2_{policy}.png", png_bytes(drawing))
        for name, values in maps.items():
            both = np.isfinite(values)
            rho, exchanged = (_spearman(values[both], published[both]) for published in (FIGURE_2, FIGURE_2.T))
            logs = values[both]
            rows.append([name, policy, len(logs), float(logs.mean()), float(logs.min()), rho, exchanged])
            records[f"{name}, {policy}"] = {"map": values, "spearman": rho, "spearman_exchanged": exchanged}
    written = write_json(folder / "results.json", {"published": FIGURE_2, "maps": records})
    published = FIGURE_2[np.isfinite(FIGURE_2)]
    print_table(
        ["method", "policy", "pairs", "mean log RIR", "least", "rho with published", "axes exchanged"],
        rows,
        title=f"published: mean {published.mean():.2f}, least {published.min():.2f}",
    )
    print(f"\nPictures: {', '.join(str(folder / f'figure2_{policy}.png') for policy in MEASURES.values())}")
    return written


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(np.asarray(spearmanr(one, other))[0])


def _map(runs: list[dict[str, Any]], measure: str) -> np.ndarray:
    """Mean log RIR over seeds, shape (10, 10): rows are harmful digits, columns primary ones, NaN where there is none."""
    logs: dict[tuple[int, int], list[float]] = {}
    for run in runs:
        logs.setdefault((run["harmful_digit"], run["primary_digit"]), []).append(float(np.log(run[measure])))
    values = np.full((10, 10), np.nan)
    for place, found in logs.items():
        values[place] = np.mean(found)
    return values


if __name__ == "__main__":
    main()
