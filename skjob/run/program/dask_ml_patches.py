"""Patches for defects of dask-ml, and of Dask's frames as dask-ml uses them, applied as the modules are imported.

dask-ml 2025.1.0 is its latest release, and Dask has moved on since. Each patch is one function, with the defect and a
`GONE WHEN` after which to delete it. A module that does not look as expected is left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from skjob.utils.import_hooks import when_imported


def _persist_from_a_coroutine(module: ModuleType) -> None:
    """Hyperband and its kin: `RuntimeError: Attempting to use an asynchronous Client in a synchronous context`.

    Their searches are coroutines on the client's loop and call `dask.persist`, which Dask no longer allows there; the
    client's own `persist` does the same and may be called anywhere (dask-ml issue 1016). GONE WHEN
    `HyperbandSearchCV(SGDClassifier(), {"alpha": [0.1, 1]}).fit(X, y, classes=[0, 1])` works without this.
    """
    if not hasattr(module, "dask"):
        return
    dask = module.dask

    def persist(*values: Any) -> Any:
        from distributed import default_client

        collections, repack = dask.base.unpack_collections(*values, traverse=True)
        return repack(default_client().persist(collections))

    module.dask = SimpleNamespace(**{**vars(dask), "persist": persist})  # type: ignore[attr-defined]


def _score_of_unknown_length(module: ModuleType) -> None:
    """`LinearRegression.score`: `ValueError: cannot broadcast shape (nan,) to shape (nan,)`.

    Its `r2_score` assigns to those outputs that a Dask array chooses, whose number is not known. GONE WHEN
    `dask_ml.metrics.r2_score(da.ones(4), da.zeros(4))` works without this.
    """
    if not {"r2_score", "_check_reg_targets", "_check_sample_weight"} <= vars(module).keys():
        return
    check_targets, check_weight = module._check_reg_targets, module._check_sample_weight

    def r2_score(
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        multioutput: str | None = "uniform_average",
        compute: bool = True,
    ) -> Any:
        import dask.array

        check_weight(sample_weight)
        _, y_true, y_pred, _ = check_targets(y_true, y_pred, multioutput)
        residual = ((y_true - y_pred) ** 2).sum(axis=0, dtype="f8")
        total = ((y_true - y_true.mean(axis=0)) ** 2).sum(axis=0, dtype="f8")
        constant = total == 0
        scores = dask.array.where(constant, (residual == 0) * 1.0, 1 - residual / dask.array.where(constant, 1, total))
        result = scores.mean(axis=0)
        return result.compute() if compute else result

    broken = module.r2_score
    r2_score.__doc__ = broken.__doc__
    module.r2_score = r2_score  # type: ignore[attr-defined]
    for name, other in list(sys.modules.items()):  # those that have imported it from there already
        if name.startswith("dask_ml.") and vars(other).get("r2_score") is broken:
            other.r2_score = r2_score  # type: ignore[attr-defined]


def _partitions_that_stay(module: ModuleType) -> None:
    """`frame[columns].to_dask_array(lengths=True)`: `ValueError: The number of items in 'lengths' does not match`.

    While an expression that reads files is turned into an array, some of its partitions are read as one, and array and
    frame disagree about their number; so do two arrays of one frame, such as features and target (Dask issue 12411).
    Without that step each partition is one task. GONE WHEN the line above works on two columns of a file with three
    and several row groups, read with `split_row_groups=1`.
    """
    for name in ("BlockwiseIO", "ReadParquetPyarrowFS"):
        kind = getattr(module, name, None)
        if kind is not None and "_tune_up" in vars(kind):
            kind._tune_up = lambda _, parent: None


PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "dask_ml.model_selection._incremental": _persist_from_a_coroutine,
    "dask_ml.metrics.regression": _score_of_unknown_length,
    "dask.dataframe.dask_expr.io.io": _partitions_that_stay,
    "dask.dataframe.dask_expr.io.parquet": _partitions_that_stay,
}


def install_patches() -> None:
    """Patch these modules in this process, now or when they are imported. Safe to call twice."""
    for name, patch in PATCHES.items():
        when_imported(name, patch)
