"""Fits an estimator on data that stays in pieces on the workers, and scores it on the rows held out.

Nothing here gathers rows: what comes back to the client is a model, a few sums, and the values that the target takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skjob.errors import ConfigError
from skjob.jobfile.data.additive_scores import SCORERS, Sums
from skjob.jobfile.data.estimator_support import booster, classifies, is_dask_ml, is_dask_ml_model, steps_of
from skjob.jobfile.data.partitions import Part, Pieces, Rows, parts_of, read_column, read_numbers, read_part
from skjob.jobfile.data.placement import Placement
from skjob.jobfile.data.table_size import Table

MOST_CLASSES = 10_000


@dataclass(frozen=True)
class FitRequest:
    """What to learn: the columns, how large a part of the rows is held out, and by which draw.

    `address` is how the user called the data.
    """

    address: str
    features: tuple[str, ...]
    target: str
    holdout: float
    seed: int
    scorers: tuple[str, ...]


@dataclass(frozen=True)
class FitResult:
    """The model, and its scores on the rows held out; none where there are no such rows."""

    model: Any
    scores: dict[str, float]
    learned_from: int
    held_out: int


def refusals(table: Table, asked: FitRequest, estimator: Any) -> list[str]:
    """What keeps this estimator from learning from these pieces, as far as it can be told without reading them."""
    steps = steps_of(estimator)
    columns = {column.name: column for column in table.columns}
    words = [name for name in asked.features if columns[name].kind != "number"]
    problems = []
    if words and (is_dask_ml_model(steps[0]) or not is_dask_ml(steps[0])):
        problems.append(
            f"column `{words[0]}` of `{asked.address}` does not hold numbers: an estimator in pieces takes numbers; "
            "name the others in `features`, or begin with a step of `dask_ml.preprocessing`"
        )
    if columns[asked.target].empty:
        rows = columns[asked.target].empty
        problems.append(f"target column `{asked.target}` of `{asked.address}` is empty in {rows:,} rows: fill them")
    for name in asked.scorers if asked.holdout else ():
        if name not in SCORERS:
            known = ", ".join(f"`{each}`" for each in SCORERS)
            problems.append(f"`{name}` can't be added up from pieces; there are {known}")
    return problems


def content_of(table: Table, asked: FitRequest, placement: Placement) -> str | None:
    """What tells the rows and columns that a fit learns from, and is watched on, from others, in this order.

    None where a file's store tells nothing by which its content is known.
    """
    if not all(file.state for file in table.files):
        return None
    files = [(file.url, file.size, file.state) for file in table.files]
    # The rows held out are drawn part by part, and the parts depend on the workers' memory.
    parts = parts_of(table, placement.piece_rows)
    return repr((files, parts, asked.features, asked.target, asked.holdout, asked.seed))


def fit(
    estimator: Any,
    table: Table,
    asked: FitRequest,
    placement: Placement,
    train_booster: Callable[..., Any],
) -> FitResult:
    """Fit, on the cluster of this process's Dask client.

    `train_booster(estimator, X, y, eval_set)` trains one of XGBoost's or LightGBM's.

    Raises:
        ConfigError: the data is not what the estimator can learn from.
    """
    parts = parts_of(table, placement.piece_rows)
    all_rows = Pieces(parts, table, holdout=asked.holdout, seed=asked.seed)
    learn = replace(all_rows, rows=Rows.LEARN if asked.holdout else Rows.ALL)
    steps = steps_of(estimator)
    classes = _classes(steps[-1], parts, asked)
    X = _features(learn, asked)
    y = learn.column(asked.target, _target_type(table, asked.target, classes))
    if placement.kept:
        import dask

        X, y = dask.persist(X, y)
    fitted = []
    for step in steps[:-1]:
        step = _learn(copy.deepcopy(step), X, y, None)
        X = _transformed(step, X)
        fitted.append(step)
    last = steps[-1]
    if booster(last):
        held_out = replace(all_rows, rows=Rows.HELD_OUT)
        target = held_out.column(asked.target, y.dtype)
        model = train_booster(last, X, y, [(_features(held_out, asked), target)] if asked.holdout else [])
    else:
        model = _learn(copy.deepcopy(last), X, y, classes)
    if hasattr(estimator, "steps"):
        names = [name for name, _ in estimator.steps]
        model = type(estimator)(list(zip(names, [*fitted, model], strict=True)))
    return FitResult(
        model,
        _scores(model, replace(all_rows, rows=Rows.HELD_OUT), asked) if asked.holdout else {},
        sum(learn.lengths()),
        sum(part.rows for part in parts) - sum(learn.lengths()),
    )


def _features(pieces: Pieces, asked: FitRequest) -> Any:
    """An array, which dask-ml's models and a `partial_fit` take; a frame where the first step tells columns apart."""
    if pieces.dtype(asked.features) is not None:
        return pieces.numbers(asked.features)
    return pieces.frame(asked.features, _example(pieces.table, asked.features))


def _example(table: Table, names: Sequence[str]) -> Any:
    """A frame without rows, of the types that a part has."""
    first = next(group for group in table.groups if group.rows)
    return read_part(Part(first.url, (first.number,), first.rows, 0), names, Rows.ALL, 0.0, 0).iloc[:0]


def _target_type(table: Table, target: str, classes: Any) -> Any:
    if classes is not None:
        return classes.dtype
    width = next(column.width for column in table.columns if column.name == target)
    return "float32" if width == 4 else "float64"


# ---- classes


def _classes(last: Any, parts: Sequence[Part], asked: FitRequest) -> Any:
    """The values of a classifier's target, sorted; None for a regressor. Reads the target's column once."""
    import dask
    import numpy

    logistic = is_dask_ml_model(last) and type(last).__name__ == "LogisticRegression"
    wanted = classifies(last)
    found = dask.compute([dask.delayed(_values)(part, asked.target, wanted) for part in parts])[0]
    empty = sum(gaps for _, gaps in found)
    if empty:
        raise ConfigError(
            f"target column `{asked.target}` of `{asked.address}` is empty in {empty:,} rows", "fill them"
        )
    if not wanted:
        return None
    classes = numpy.unique(numpy.concatenate([values for values, _ in found]))
    if len(classes) > MOST_CLASSES:
        raise ConfigError(
            f"target column `{asked.target}` of `{asked.address}` has {len(classes):,} values, too many for classes",
            "choose a regressor",
        )
    if logistic and not (len(classes) == 2 and set(classes.tolist()) <= {0, 1}):
        values = ", ".join(f"`{value}`" for value in classes.tolist()[:5])
        raise ConfigError(
            f"target column `{asked.target}` of `{asked.address}` has the values {values}: dask-ml's "
            "`LogisticRegression` takes 0 and 1",
            "write them as 0 and 1, or choose `sklearn.linear_model.SGDClassifier` with `loss: log_loss`",
        )
    return classes


def _values(part: Part, target: str, wanted: bool) -> tuple[Any, int]:
    import numpy
    import pandas

    column = read_column(part, target, Rows.ALL, 0.0, 0)
    gaps = int(pandas.isna(column).sum())
    values = numpy.unique(column) if wanted and not gaps else numpy.empty(0, column.dtype)
    return values[: MOST_CLASSES + 1], gaps


# ---- learning


def _learn(step: Any, X: Any, y: Any, classes: Any) -> Any:
    if is_dask_ml(step):
        return step.fit(X, y)
    return _by_partial_fit(step, X, y, classes)


def _by_partial_fit(step: Any, X: Any, y: Any, classes: Any) -> Any:
    """Piece after piece, in an order drawn once: files are often sorted by time or by class."""
    import dask
    import numpy

    pieces = list(zip(_blocks(X), _blocks(y), strict=True))
    first = {} if classes is None else {"classes": classes}
    model = dask.delayed(step)
    for index in numpy.random.default_rng(0).permutation(len(pieces)):
        model = dask.delayed(_one_more)(model, *pieces[index], first)
    return model.compute()


def _one_more(step: Any, X: Any, y: Any, first: dict[str, Any]) -> Any:
    if not len(y):
        return step
    step = copy.deepcopy(step)  # a task that is done again must begin with the same one
    return step.partial_fit(X, y, **first)


def _blocks(collection: Any) -> list[Any]:
    delayed = collection.to_delayed()
    return list(delayed.ravel()) if hasattr(delayed, "ravel") else list(delayed)


def _transformed(step: Any, X: Any) -> Any:
    if is_dask_ml(step):
        return step.transform(X)
    width = step.transform(X._meta_nonempty if hasattr(X, "_meta_nonempty") else _one_row(X)).shape[1]
    return X.map_blocks(step.transform, dtype=X.dtype, chunks=(X.chunks[0], (width,)))


def _one_row(X: Any) -> Any:
    import numpy

    return numpy.zeros((1, X.shape[1]), X.dtype)


# ---- scores


def _scores(model: Any, held_out: Pieces, asked: FitRequest) -> dict[str, float]:
    """Each piece is predicted where it is; sums come back."""
    import dask

    there = dask.delayed(model)
    dtype = held_out.dtype(asked.features)
    tallies = [dask.delayed(_tally)(there, part, asked, dtype) for part in held_out.parts]
    (found,) = dask.compute(tallies)
    sums = Sums.joined(found)
    return {name: sums.score(name) for name in asked.scorers}


def _tally(model: Any, part: Part, asked: FitRequest, dtype: str | None) -> Sums:
    target = read_column(part, asked.target, Rows.HELD_OUT, asked.holdout, asked.seed)
    if not len(target):
        return Sums()
    if dtype is None:
        features = read_part(part, asked.features, Rows.HELD_OUT, asked.holdout, asked.seed)
    else:
        features = read_numbers(part, asked.features, Rows.HELD_OUT, asked.holdout, asked.seed, dtype)
    return Sums.of(target, model.predict(features))
