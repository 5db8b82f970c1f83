# Tasks get generators and open iterators as arguments, which only the script's process can read.
# Source: joblib#79 and Stack Overflow "cannot pickle 'generator' object"
# Kind: D
# Told: runs in this process: a generator is among its arguments
# Slow
from joblib import Parallel, delayed


def batches(count):
    for number in range(count):
        yield list(range(number))


def total(lists):
    return sum(sum(each) for each in lists)


shared = batches(9)
print(Parallel()(delayed(total)(batches(count)) for count in (3, 5, 7)))
print(Parallel()(delayed(next)(shared) for _ in range(4)), next(shared))
