# Forked children that end by os._exit and by sys.exit, after a parallel call in each; the parent goes on with calls.
# Source: Python's manual on os.fork; dask/dask#3813
# Kind: F
import os
import sys
from joblib import Parallel, delayed


def square(number):
    return number**2


print(Parallel()(delayed(square)(number) for number in range(3)), flush=True)
for leave in (os._exit, sys.exit):
    child = os.fork()
    if not child:
        print("child", Parallel()(delayed(square)(number) for number in range(3, 6)), flush=True)
        leave(5)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(Parallel()(delayed(square)(number) for number in range(6, 9)))
