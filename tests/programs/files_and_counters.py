# Tasks write files of their own and count.
# Source: joblib#886 (functions that write files)
# Kind: A
# Told: runs in this process: its tasks change `count`

from pathlib import Path

from joblib import Parallel, delayed

count = {"written": 0}


def write(number):
    with open(f"part{number}.txt", "x") as file:
        file.write("1")
    count["written"] += 1
    return count["written"]


print(Parallel()(delayed(write)(number) for number in range(4)), sorted(path.name for path in Path().glob("*.txt")))
