# The script sets, changes and removes variables of the environment between its calls; its code asks for them by name.
# Source: dask/distributed#2908, joblib#1278
# Kind: B
# Slow
import os
from joblib import Parallel, delayed

NAMES = ("MODEL_SIZE", "MODEL_MODE", "MODEL_DEBUG")


def seen(number):
    return [os.environ.get(name) for name in NAMES], os.getenv("MODEL_SIZE", "none")


print(Parallel()(delayed(seen)(number) for number in range(2)))
os.environ["MODEL_SIZE"] = "3"
os.environ.setdefault("MODEL_DEBUG", "yes")
print(Parallel()(delayed(seen)(number) for number in range(2)))
os.environ["MODEL_SIZE"] = "4"
del os.environ["MODEL_DEBUG"]
os.environ.update(MODEL_MODE="fast")
print(Parallel()(delayed(seen)(number) for number in range(2)))
print(Parallel(n_jobs=2)(delayed(seen)(number) for number in range(2)))
