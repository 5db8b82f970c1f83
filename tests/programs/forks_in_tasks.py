# A task forks by itself to compute in a child, and reads the answer from a pipe.
# Source: Python's manual on os.fork; dask/distributed#2718
# Kind: E
# Told: runs in this process: its tasks fork the process
# Slow
import os
from joblib import Parallel, delayed


def in_a_child(number):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, str(number**3).encode())
        os._exit(7)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    return text, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


print(Parallel()(delayed(in_a_child)(number) for number in range(4)))
