"""Immunization as a transformer of scikit-learn: fitted on the features of two tasks, it maps features of any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from cimm_jax.commands.immunize import defend, prepare
from cimm_jax.data.feature_table import FeatureParts, FeatureTable
from cimm_jax.errors import InputError
from cimm_jax.front.asking import immunize_settings, table_of
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.verbosity import Level, at_level

__all__ = ["Immunizer"]

_FLOATS = [np.float64, np.float32]


class Immunizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The linear map that a method makes, behind features: the primary task stays as easy, the harmful one becomes hard.

    All rows that it is fitted on are seen by the method; `cimm_jax.protect` holds some out, and judges by them.

    Parameters:
      method: one of `cimm list methods` that makes a map. `pencil`, a closed form, needs no labels.
      target: what labels are, "classes" or "regression".
      random_state: whole number that seeds the method.
      settings: further settings of `cimm immunize` by name, such as {"budget": 100}.

    Attributes:
      theta_: the map, float64 of shape (n_features_in_, n_features_in_); `transform` gives X @ theta_.
      n_features_in_: number of features.
      feature_names_in_: their names, where X had any.
    """

    def __init__(
        self,
        method: str = "pencil",
        *,
        target: str = "classes",
        random_state: int = 0,
        settings: Mapping[str, Any] | None = None,
    ):
        self.method = method
        self.target = target
        self.random_state = random_state
        self.settings = settings

    def fit(self, X: Any, y: Any = None, *, X_harmful: Any = None, y_harmful: Any = None) -> "Immunizer":  # noqa: N803
        """Finds the map.

        Args:
          X: features of the primary task, shape (N, d).
          y: its labels, shape (N,): classes, or amounts. None where the method needs none.
          X_harmful: features of the harmful task, of the same columns.
          y_harmful: its labels.

        Raises:
          ValueError: for what scikit-learn refuses, and, as `InputError`, for what `cimm immunize` does.
        """
        if X_harmful is None:
            raise InputError(
                "X_harmful: none given; fit(X, y, X_harmful=..., y_harmful=...) needs features of both tasks"
            )
        primary = self._table(X, y, "X", reset=True)
        harmful = self._table(X_harmful, y_harmful, "X_harmful", reset=False)
        asked = immunize_settings(
            primary,
            harmful,
            {"method": self.method, "target": self.target, "seed": self.random_state, **(self.settings or {})},
        )
        if asked.extractor is not None:
            raise InputError("extractor: a transformer makes a map; train one with cimm_jax.protect, or leave it out")
        with jax.enable_x64(True), at_level(Level.QUIET):
            # Nothing is measured, so that no rows have to be held out.
            parts = {"primary": FeatureParts(primary, primary), "harmful": FeatureParts(harmful, harmful)}
            subject = FeatureSubject(asked.source, parts)  # pyright: ignore
            defence = defend(prepare(asked, subject), Path()).defence
        assert isinstance(defence, MapDefence)  # trained blocks need a network
        self.theta_ = np.asarray(defence.theta)
        self._n_features_out = self.theta_.shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Protected features, X @ theta_, of X's dtype if that is float32 and otherwise float64."""
        check_is_fitted(self)
        x: Any = validate_data(self, X, dtype=_FLOATS, reset=False)
        return x @ self.theta_.astype(x.dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _table(self, features: Any, labels: Any, name: str, *, reset: bool) -> FeatureTable:
        x: Any = validate_data(self, features, dtype=_FLOATS, reset=reset, ensure_min_samples=2)
        if labels is not None:
            check_consistent_length(x, labels)
        return table_of(x, labels, name)
