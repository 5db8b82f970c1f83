# A pool of spawned processes, each of which imports the script anew and cross-validates.
# Source: dask/dask#3813; Python's manual, "contexts and start methods"
# Kind: F
# Slow
from multiprocessing import get_context
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB


def evaluate(smoothing):
    model = GaussianNB(var_smoothing=smoothing)
    return smoothing, cross_val_score(model, *load_iris(return_X_y=True), cv=3).round(4).tolist()


if __name__ == "__main__":
    with get_context("spawn").Pool(1) as pool:
        print(pool.map(evaluate, (1e-9, 1e-1)))
    print(evaluate(1.0))
