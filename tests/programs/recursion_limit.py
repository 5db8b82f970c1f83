# A recursive function of the script's needs a higher recursion limit, which the script sets. No n_jobs.
# Source: joblib and dask questions on RecursionError in workers
# Kind: B
# Slow
import sys
from joblib import Parallel, delayed


def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)


def works(n):
    try:
        return depth(n)
    except RecursionError:
        return "too deep"


print(Parallel()(delayed(works)(n) for n in (10, 1500, 2500)))
sys.setrecursionlimit(4000)
print(Parallel()(delayed(works)(n) for n in (10, 1500, 2500)))
print(Parallel()(delayed(sys.getrecursionlimit)() for _ in range(1)))
