"""A logistic regression on more data than a worker, or this machine, has memory for.

    skjob run --workers 3 --worker-memory 512Mi larger_than_memory.py
    skjob run --workers 3 --worker-memory 512Mi larger_than_memory.py --gib 8

The rows are drawn by the workers, piece by piece, as they would read them from Parquet: `dask.dataframe.read_parquet`
with `frame[columns].to_dask_array(lengths=True)` gives the same kind of arrays. Nothing here says where the cluster is:
dask-ml finds it. (Run by plain `python`, it all takes place in this process.)
"""

import argparse
import time

import dask.array
import numpy
from dask_ml.linear_model import LogisticRegression
from dask_ml.model_selection import train_test_split
from dask_ml.preprocessing import StandardScaler

FEATURES = 20
ROWS_IN_PIECE = 65_536


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument(
        "--gib", type=float, default=0.25, help="how much data; four workers' memory, to see the point"
    )
    options.add_argument("--passes", type=int, default=5, help="iterations of the solver, each of them a pass or two")
    told = options.parse_args()

    pieces = max(2, round(told.gib * 2**30 / (ROWS_IN_PIECE * FEATURES * 8)))
    draw = dask.array.random.default_rng(0)
    rows = pieces * ROWS_IN_PIECE
    X = draw.normal(3, 2, (rows, FEATURES), chunks=(ROWS_IN_PIECE, -1))
    weights = numpy.linspace(-1, 1, FEATURES)
    noise = draw.logistic(size=rows, chunks=ROWS_IN_PIECE)
    y = ((X - 3) @ weights + noise > 0).astype("int8")

    X_learn, X_test, y_learn, y_test = train_test_split(X, y, test_size=0.1, random_state=0)
    scaler = StandardScaler().fit(X_learn)
    began = time.perf_counter()
    model = LogisticRegression(solver="lbfgs", max_iter=told.passes).fit(scaler.transform(X_learn), y_learn)
    seconds = time.perf_counter() - began
    score = float(model.score(scaler.transform(X_test), y_test))
    print(f"{X.nbytes / 2**30:.2f} GiB in {pieces} pieces, fitted in {seconds:.1f} s")
    print(f"accuracy {score:.3f}")


if __name__ == "__main__":
    main()
