# The script asks joblib for the number of jobs and cuts its work by it, with and without a configuration.
# Source: joblib#1316, scikit-learn#9287
# Kind: C
import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config

data = np.random.default_rng(0).random(10_001).astype("f4")


def total(n_jobs=None):
    jobs = effective_n_jobs(n_jobs)
    parts = Parallel(n_jobs=n_jobs)(delayed(np.sum)(part) for part in np.array_split(data, jobs))
    return jobs, repr(sum(parts))


print(total(), total(2), total(3), effective_n_jobs(-1) >= 1)
with parallel_config(n_jobs=4):
    print(total(), total(2))
with parallel_config("threading", n_jobs=3):
    print(effective_n_jobs(None), effective_n_jobs(5))
print(total())
