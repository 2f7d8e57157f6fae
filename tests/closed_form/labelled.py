"""Tasks of several classes on features of prescribed spectra, and what sklearn's linear heads get out of features."""

import numpy as np
import prescribed
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from cimm_jax import Task

D, CLASSES, ROWS = 8, 4, 120


def labels_of(rng, rows=ROWS, classes=CLASSES):
    return rng.permutation(np.arange(rows) % classes)


def one_hot(labels):
    return np.eye(labels.max() + 1)[labels]


def class_task(rng, spread=1e3, rows=ROWS, features=D, classes=CLASSES):
    """Classes with means of their own, in features whose deviations span a prescribed range."""
    labels = labels_of(rng, rows, classes)
    mixed = prescribed.matrix(rng, prescribed.geometric(spread, features))
    plain = rng.standard_normal((rows, features)) + 2 * rng.standard_normal((classes, features))[labels] + 1
    return Task(plain @ mixed, one_hot(labels))


def covariance_with(task):
    """Cov(x, y), shape (d, C)."""
    x, y = np.asarray(task.x), np.asarray(task.y).reshape(len(task.y), -1)
    return (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)


def explained(x, y, rtol=1e-9):
    """Share of the variance of y that the best linear head with an intercept explains on its own rows."""
    x, y = x - x.mean(0), y - y.mean(0)
    u, sigma, _ = np.linalg.svd(x, full_matrices=False)
    u = u[:, sigma > rtol * max(sigma[0], 1e-300)]
    return np.sum((u.T @ y) ** 2) / np.sum(y**2)


def heads_accuracy(x, labels):
    """Accuracy of linear heads of several convex losses on the rows they are fitted on, by name."""
    x = (x - x.mean(0)) / max(x.std(), 1e-300)
    ridge = Ridge(1e-6).fit(x, one_hot(labels))
    return {
        "squared": np.mean(ridge.predict(x).argmax(1) == labels),
        "logistic": LogisticRegression(C=1e3, max_iter=2000).fit(x, labels).score(x, labels),
        "hinge": LinearSVC(C=1e2, max_iter=20000).fit(x, labels).score(x, labels),
    }
