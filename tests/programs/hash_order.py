# Tasks make sets of strings, whose order depends on hashes; the program makes the same set.
# Source: dask/dask#6640 (workers that hash strings in different ways)
# Kind: C
# New python

from joblib import Parallel, delayed

TEXT = "alpha beta gamma delta epsilon zeta eta theta iota kappa"


def vocabulary(text):
    return list(set(text.split())), hash(text)


print([each == vocabulary(TEXT) for each in Parallel()(delayed(vocabulary)(TEXT) for _ in range(4))])
