"""Figures that the paper prints (Zheng, Bai, Bullins, Yeh, ICML 2025), to stand beside ours."""

import numpy as np

TABLE_1 = {
    "ill_only": (90.02, 72.42, 1.24),
    "imma": (7.05, 3.55, 2.00),
    "opt_kappa": (1.52, 0.016, 92.58),
    "algorithm1": (18.92, 0.053, 356.20),
}
"""House Prices: (i), (ii) and RIR by method."""

TABLE_2 = {"ill_only": 1.93, "imma": 1.77, "opt_kappa": 69.73, "algorithm1": 70.04}
"""MNIST: mean RIR over the 90 ordered pairs of digits by method."""

TABLE_3 = {
    ("resnet18", "cars"): {
        "ill_only": (1.878, 1.786, 1.057, 63.84),
        "imma": (0.866, 0.889, 0.974, 63.57),
        "opt_kappa": (1.217, 0.798, 1.527, 63.65),
        "algorithm1": (2.386, 0.699, 3.467, 62.36),
    },
    ("resnet18", "country211"): {
        "ill_only": (20.727, 20.675, 1.038, 62.17),
        "imma": (0.791, 0.814, 0.972, 67.03),
        "opt_kappa": (1.538, 1.053, 1.472, 66.81),
        "algorithm1": (3.287, 0.399, 8.714, 65.01),
    },
    ("vit_b16", "cars"): {
        "ill_only": (13.121, 4.097, 3.342, 82.21),
        "imma": (1.422, 2.090, 0.702, 81.89),
        "opt_kappa": (3.598, 0.171, 26.369, 82.51),
        "algorithm1": (7.945, 0.323, 34.517, 82.79),
    },
    ("vit_b16", "country211"): {
        "ill_only": (69.291, 63.519, 1.122, 80.73),
        "imma": (6.242, 7.599, 0.845, 82.47),
        "opt_kappa": (4.589, 0.300, 16.498, 82.79),
        "algorithm1": (20.894, 0.700, 41.341, 83.17),
    },
}
"""Networks: (i), (ii), RIR_theta0 and ImageNet accuracy in per cent, by network and harmful data set, then by method."""

FIGURE_2 = np.array(
    [
        [np.nan, 4.83, 4.84, 4.05, 4.85, 4.56, 3.60, 4.28, 4.35, 4.28],
        [6.26, np.nan, 5.45, 5.64, 5.84, 5.39, 5.24, 4.72, 5.06, 4.67],
        [3.62, 2.97, np.nan, 3.14, 3.48, 3.67, 3.20, 3.36, 2.89, 3.26],
        [4.32, 3.63, 3.21, np.nan, 3.83, 3.24, 3.49, 3.48, 2.75, 3.24],
        [4.65, 3.54, 4.45, 4.86, np.nan, 4.80, 3.64, 3.83, 4.23, 2.15],
        [3.58, 3.35, 3.53, 2.17, 3.68, np.nan, 3.04, 3.49, 3.64, 3.07],
        [3.49, 3.63, 4.70, 4.37, 3.95, 3.81, np.nan, 4.67, 3.86, 4.05],
        [4.42, 3.46, 4.22, 4.32, 3.24, 4.51, 4.17, np.nan, 3.52, 2.67],
        [4.71, 2.77, 4.03, 3.07, 4.10, 3.59, 3.54, 3.49, np.nan, 3.09],
        [4.15, 3.91, 4.38, 3.85, 3.14, 3.87, 4.12, 3.76, 3.11, np.nan],
    ]
)
"""Log RIR of the paper's method on MNIST: rows are harmful digits, columns primary ones."""
