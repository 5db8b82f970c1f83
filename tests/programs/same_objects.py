# Tasks return objects of the program that it compares by `is`.
# Source: joblib#1162 (a singleton becomes several)
# Kind: A
# Told: runs in this process: its results are not what they are in one process: they contain the program's own object `MISSING`
# Told: runs in this process: its results are not what they are in one process: they contain the program's own object `rows`

from joblib import Parallel, delayed

MISSING = object()


def find(number):
    return MISSING if number % 2 else number


rows = [1, 2]


def same():
    return rows


print([each is MISSING for each in Parallel()(delayed(find)(number) for number in range(4))])

results = Parallel()(delayed(same)() for _ in range(2))
results[0].append(3)
print(rows, results[0] is results[1])
