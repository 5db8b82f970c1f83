# A transformer calls a command for each batch of texts, as programs with tools of their own do.
# Source: dask/distributed#2142; Stack Overflow "subprocess in joblib Parallel"
# Kind: E
# Twice
# Slow
import subprocess
import sys
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def lengths(texts):
    done = subprocess.run(["awk", "{print length($0), NF}"], input="\n".join(texts), capture_output=True, text=True)
    return np.array([line.split() for line in done.stdout.splitlines()], dtype=float)


texts = np.array(["aa " * (i % 5) + "e" * (i % 3) for i in range(60)])
target = np.array([i % 5 > 1 for i in range(60)], dtype=int)
pipe = make_pipeline(FunctionTransformer(lengths), LogisticRegression())
print(cross_val_score(pipe, texts, target, cv=3, error_score="raise").round(4).tolist())
