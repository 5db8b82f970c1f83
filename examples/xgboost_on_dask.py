"""XGBoost on all workers at once: each trains on the rows that it holds. With an evaluation set and early stopping.

    python examples/xgboost_on_dask.py
    skjob run --workers 2 examples/xgboost_on_dask.py

`Client()` is a cluster of this machine, or the run's own under `skjob run`: the program is the same. The training waits
for the workers that the run may have, since those that come later take no part in it. If one of them dies, it ends with
an error that says so; a declared job goes on from its last checkpoint instead.
"""

from time import perf_counter

import dask.array as da
from dask.distributed import Client
from xgboost.dask import DaskXGBClassifier


def main() -> None:
    # With this few different values, where the rows lie makes no difference to the model.
    features = da.random.default_rng(0).integers(0, 50, size=(20_000, 8), chunks=(2_500, 8))
    target = (features[:, 0] * features[:, 1] + features[:, 2] > 640).astype(int)
    model = DaskXGBClassifier(n_estimators=200, max_depth=4, learning_rate=0.5, early_stopping_rounds=5)
    with Client():
        began = perf_counter()
        model.fit(
            features[:15_000],
            target[:15_000],
            eval_set=[(features[15_000:], target[15_000:])],
            verbose=False,
        )
        seconds = perf_counter() - began
        right = (model.predict(features[15_000:]) == target[15_000:]).mean().compute()
    print(f"best round: {model.best_iteration}")
    print(f"accuracy: {right:.2f}")
    print(f"fitted in {seconds:.1f} s")


if __name__ == "__main__":
    main()
