# Three data sets, one process each, by the script's own pool; each is cross-validated inside, without n_jobs.
# Source: dask/dask#3813 (execution hangs when started in a separate process)
# Kind: F
# Slow
from multiprocessing import Pool
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

LOADERS = {"iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer}


def evaluate(name):
    X, y = LOADERS[name](return_X_y=True)
    return name, round(cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X, y, cv=3).mean(), 4)


if __name__ == "__main__":
    with Pool(2) as pool:
        for name, score in pool.map(evaluate, LOADERS):
            print(name, score)
