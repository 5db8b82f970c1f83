# A task seeds the global generator only if it gets a seed, and gets none: it draws from the one that the program seeded.
# Source: simulations with `def run(seed=None)` that call `np.random.seed(seed)` within `if seed is not None`
# Kind: B
# Told: `np.random.seed` does not reach workers
# Differs
# Slow
import numpy as np
from joblib import Parallel, delayed


def draw(seed=None):
    if seed is not None:
        np.random.seed(seed)
    return np.random.rand()


np.random.seed(7)
print(Parallel()(delayed(draw)() for _ in range(3)))
print(np.random.rand())
