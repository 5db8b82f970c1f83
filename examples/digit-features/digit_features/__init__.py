"""What a picture of a digit shows at a glance: the ink in its rows and columns, and how symmetric it is."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

SIDE = 8
"""The pictures of `sklearn.datasets.load_digits` are so many pixels wide and high."""


class Ink(TransformerMixin, BaseEstimator):
    """Ink in each row and each column, and what is left when a picture is laid on its mirror image.

    Parameters
    ----------
    symmetry : bool, default=True
        Whether to compare with the mirror images, the left with the right and the top with the bottom.
    """

    def __init__(self, symmetry: bool = True) -> None:
        self.symmetry = symmetry

    def fit(self, X, y=None):
        """Nothing is learnt."""
        return self

    def transform(self, X):
        """One row for each picture: 16 columns, or 32 with symmetry."""
        pictures = np.asarray(X, dtype=float).reshape(-1, SIDE, SIDE)
        features = [pictures.sum(axis=1), pictures.sum(axis=2)]
        if self.symmetry:
            features.append(np.abs(pictures - pictures[:, :, ::-1]).sum(axis=1))
            features.append(np.abs(pictures - pictures[:, ::-1, :]).sum(axis=2))
        return np.hstack(features)
