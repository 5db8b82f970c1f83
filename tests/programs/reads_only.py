# Tasks read lists, dictionaries, a set and an object of the script's, and change nothing: they go to workers.
# Source: this project's rule that reading shared data is no difference
# Kind: A
# Slow
import itertools
from types import SimpleNamespace
import numpy as np
from joblib import Parallel, delayed

weights = [0.5, 1.5, 2.5]
names = {"a": 1, "b": 2, "c": 3}
allowed = {1, 3}
settings = SimpleNamespace(power=2, table=np.arange(6.0).reshape(2, 3))


def work(letter, weight):
    number = names[letter]
    kept = number in allowed
    return letter, float(settings.table[number % 2].sum()) * weight**settings.power, kept, len(weights)


for n_jobs in (None, 2):
    print(Parallel(n_jobs=n_jobs)(delayed(work)(*each) for each in itertools.product(names, weights)))
