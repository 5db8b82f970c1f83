# Tasks write to stdout past Python: by its file descriptor, by commands, by compiled code.
# Source: scikit-learn#699, scikit-learn#5811 (what compiled code and processes print does not arrive)
# Kind: E
# Slow

import os
import subprocess
import sys

from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC


def task(number):
    print("by Python", number, flush=True)
    os.write(1, b"by the descriptor\n")
    sys.stdout.buffer.write(b"by its buffer\n")
    sys.stdout.buffer.flush()
    print("by the first stdout", file=sys.__stdout__, flush=True)
    os.system("echo by a shell")
    subprocess.run(["echo", "by a command"])
    return number


print(Parallel()(delayed(task)(number) for number in range(2)), flush=True)
X, y = load_iris(return_X_y=True)
print(cross_val_score(SVC(verbose=True), X, y, cv=2), flush=True)
