# A program with a LocalCluster and a client of its own: futures, map, gather, and a search on the `dask` backend.
# Source: Dask's manual, "Futures"; dask-examples' scale-scikit-learn
# Kind: G
# Told: is the cluster of this run
# Slow
import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier


def square(number):
    return number**2


if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(sum(client.gather(client.map(square, range(10)))))
        print(client.submit(sum, client.map(square, range(4))).result())
        with joblib.parallel_config("dask"):
            search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5, 9]}, cv=3)
            search.fit(*load_iris(return_X_y=True))
        print(search.best_params_, round(search.best_score_, 4))
