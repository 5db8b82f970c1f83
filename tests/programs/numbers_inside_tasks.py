# What an estimator inside a task is answered for its own n_jobs, and what it computes from that.
# Source: joblib's manual, "nested parallelism"; scikit-learn#9287
# Kind: C
# Slow
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.datasets import load_iris
from sklearn.manifold import MDS


def stress(n_jobs):
    X = load_iris().data[::6]
    model = MDS(n_components=2, n_init=3, max_iter=30, random_state=1, init="random", n_jobs=n_jobs)
    return effective_n_jobs(n_jobs), repr(round(float(model.fit(X).stress_), 6))


print(Parallel()(delayed(stress)(n_jobs) for n_jobs in (None, 1, 2)))
print(Parallel(n_jobs=2)(delayed(stress)(n_jobs) for n_jobs in (None, 1, 2)))
