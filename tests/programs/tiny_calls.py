# Hundreds of calls of a few tasks of microseconds each, as simulations make them.
# Source: joblib#982, scikit-learn#29229 (overhead of small calls)
# Kind: I
from joblib import Parallel, delayed


def step(value, by):
    return (value * 31 + by) % 1009


value, seen = 1, []
for _ in range(200):
    value = sum(Parallel()(delayed(step)(value, by) for by in range(3))) % 1009
    seen.append(value)
print(value, sum(seen), seen[::20])
