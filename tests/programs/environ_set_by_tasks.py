# Tasks set environment variables and options, which the script and later tasks read. No n_jobs.
# Source: Stack Overflow "os.environ set in a function called by joblib"
# Kind: B
# Told: runs in this process: its tasks change `os.environ`
# Slow
import os
from joblib import Parallel, delayed


def prepare(number):
    os.environ["PREPARED"] = os.environ.get("PREPARED", "") + str(number)
    return number


def seen(number):
    return os.environ.get("PREPARED"), number


print(Parallel()(delayed(prepare)(number) for number in range(3)), os.environ.get("PREPARED"))
print(Parallel()(delayed(seen)(number) for number in range(2)))
