# Results are put into an array of the script's by index; threads by `prefer`.
# Source: joblib's manual, on threads that share memory
# Kind: A
# Slow
# Told: runs in this process: it asks for threads
import numpy as np
from joblib import Parallel, delayed

out = np.zeros(6)


def work(i):
    out[i] = i * i


Parallel(n_jobs=3, prefer="threads")(delayed(work)(i) for i in range(6))
print(out.tolist())
