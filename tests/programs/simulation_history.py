# A simulation in steps that hand a state on in a list among their arguments; each step needs the one before.
# Source: joblib issues on "modify a list in Parallel with n_jobs=1"
# Kind: A
# Told: runs in this process: its tasks change `argument 1`
# Slow
from joblib import Parallel, delayed


def step(history, factor):
    history.append(history[-1] * factor % 1009)
    return sum(history)


history = [3]
totals = Parallel()(delayed(step)(history, factor) for factor in range(2, 30))
print(totals)
print(history)
