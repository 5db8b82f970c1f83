# The canonical program of a scikit-learn user who has already moved to Dask on a laptop.
# Source: dask-ml/dask examples "scale scikit-learn": Client(processes=False, n_workers=...), parallel_backend("dask")
# Kind: G
# Told: shares the memory of this process: its own tasks run here
# Slow
import joblib
from dask.distributed import Client
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

if __name__ == "__main__":
    client = Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10]}, cv=3)
    with joblib.parallel_backend("dask"):
        search.fit(*load_iris(return_X_y=True))
    print(search.best_params_, round(search.best_score_, 4))
    client.close()
