# Tasks add to an object with `__slots__`, to a large list and to a large frame's side of the script.
# Source: Stack Overflow questions on shared objects and joblib
# Kind: A
# Told: runs in this process: its tasks change
# Slow
from collections import defaultdict, deque
import numpy as np
from joblib import Parallel, delayed


class Totals:
    __slots__ = ("count", "last")

    def __init__(self):
        self.count, self.last = 0, deque(maxlen=3)

    def add(self, value):
        self.count += value
        self.last.append(value)
        return self.count


totals = Totals()
large = [f"entry {number}" * 20 for number in range(10_000)]
groups = defaultdict(set)
table = np.zeros((600, 500))


def work(number):
    groups[number % 2].add(number)
    return totals.add(number)


def extend(number):
    large.append(number)
    return len(large)


def fill(number):
    table[number] = number
    return float(table.sum())


print(Parallel()(delayed(totals.add)(number) for number in range(4)), totals.count, list(totals.last))
print(Parallel()(delayed(work)(number) for number in range(4)), totals.count, dict(groups))
print(Parallel()(delayed(extend)(number) for number in range(4)), large[-4:])
print(Parallel()(delayed(fill)(number) for number in range(4)), table.sum())
