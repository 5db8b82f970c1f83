# With a number of jobs, joblib's processes change copies: what they collect is lost in plain Python too. Nothing is told.
# Source: joblib#1017, Stack Overflow "joblib Parallel global variable not updated"
# Kind: A
# Slow
from joblib import Parallel, delayed

collected = []
state = {"calls": 0}


def work(number):
    collected.append(number)
    state["calls"] += 1
    return number**2


print(Parallel(n_jobs=2)(delayed(work)(number) for number in range(20)))
print(collected, state)
