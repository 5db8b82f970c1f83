# Tasks write files of their own and count; another call ends in an error after some have written.
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


def write_some(number):
    if number == 2:
        raise ValueError("no more")
    Path(f"some{number}.txt").write_text("1")


print(Parallel()(delayed(write)(number) for number in range(4)))
try:
    Parallel()(delayed(write_some)(number) for number in range(6))
except ValueError as error:
    print(error, sorted(path.name for path in Path().glob("*.txt")))
