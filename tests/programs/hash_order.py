# Tasks go through a set of strings, whose order the program knows.
# Source: dask/dask#6640 (workers that hash strings in different ways)
# Kind: C
# New python

from joblib import Parallel, delayed

words = {"alpha", "beta", "gamma", "delta", "epsilon"}
order = list(words)


def vectorize(text):
    return [text.count(word) for word in words], list(words)


for counts, seen in Parallel()(delayed(vectorize)(text) for text in ["alpha beta", "delta delta", "gamma"]):
    print(seen == order, sorted(word for word, count in zip(order, counts, strict=True) if count))
