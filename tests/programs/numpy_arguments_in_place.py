# Tasks of the script's own write into slices of one array among their arguments, one after the other.
# Source: joblib#1067, Stack Overflow "joblib modify numpy array in place"
# Kind: A
# Told: runs in this process: its tasks change `argument 1`
# Slow
import numpy as np
from joblib import Parallel, delayed


def smooth(values, start):
    part = values[start : start + 10]
    part[1:] = (part[1:] + part[:-1]) / 2
    return float(part.sum())


values = np.arange(100.0) ** 2
print(Parallel()(delayed(smooth)(values, start) for start in range(0, 100, 5)))
print(values.sum(), values[::7].round(3).tolist())
