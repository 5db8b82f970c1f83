# Word counts are added up in one dictionary under a lock, by tasks that require shared memory.
# Source: joblib's manual, "Shared-memory semantics" (require="sharedmem")
# Kind: A
# Slow
import threading
from collections import Counter
from joblib import Parallel, delayed

total = Counter()
lock = threading.Lock()
texts = ["the cat and the dog", "a dog is a dog", "the end"] * 10


def add(text):
    words = text.split()
    with lock:
        total.update(words)
    return len(words)


print(sum(Parallel(n_jobs=2, require="sharedmem")(delayed(add)(text) for text in texts)))
print(total.most_common())
