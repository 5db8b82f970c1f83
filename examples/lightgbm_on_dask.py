"""LightGBM on all workers at once: each trains on the rows that it holds.

    python examples/lightgbm_on_dask.py
    skjob run --workers 2 examples/lightgbm_on_dask.py

`Client()` is a cluster of this machine, or the run's own under `skjob run`. The number of rounds is fixed: LightGBM's
Dask estimators hang with early stopping, and skjob refuses it. XGBoost's can stop early: examples/xgboost_on_dask.py.
"""

from time import perf_counter

import dask.array as da
from dask.distributed import Client
from lightgbm import DaskLGBMClassifier


def main() -> None:
    # With this few different values, where the rows lie makes no difference to the model.
    features = da.random.default_rng(0).integers(0, 50, size=(20_000, 8), chunks=(2_500, 8))
    target = (features[:, 0] * features[:, 1] + features[:, 2] > 640).astype(int)
    model = DaskLGBMClassifier(n_estimators=100, learning_rate=0.2, verbose=-1)
    with Client() as client:
        features, target = client.persist([features, target])
        began = perf_counter()
        model.fit(features[:15_000], target[:15_000])
        seconds = perf_counter() - began
        right = (model.predict(features[15_000:]) == target[15_000:]).mean().compute()
    print(f"accuracy: {right:.2f}")
    print(f"fitted in {seconds:.1f} s")


if __name__ == "__main__":
    main()
