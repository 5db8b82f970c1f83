# Sums of rows, written by the workers into a memory map that the script has made.
# Source: joblib's manual, "Writing parallel computation results in shared memory"; joblib#608, #126, mne-python#2862
# Kind: A
# Told: runs in this process: its tasks share a writable memory map
# Slow
import os
import tempfile
import numpy as np
from joblib import Parallel, delayed

folder = tempfile.mkdtemp()
data = np.arange(40_000.0).reshape(400, 100)
sums = np.memmap(os.path.join(folder, "sums"), dtype=data.dtype, shape=data.shape[0], mode="w+")
big = np.memmap(os.path.join(folder, "big"), dtype=np.float64, shape=(300, 1000), mode="w+")


def add_up(data, sums, i):
    sums[i] = data[i].sum()


def fill(big, i):
    big[i] = i


Parallel(n_jobs=2)(delayed(add_up)(data, sums, i) for i in range(len(data)))
print("small", float(sums.sum()), "expected", float(data.sum()))
Parallel(n_jobs=2)(delayed(fill)(big, i) for i in range(len(big)))
print("big", float(big.sum()), "expected", float(1000 * sum(range(300))))
