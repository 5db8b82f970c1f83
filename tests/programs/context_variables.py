# Tasks read context variables, thread-local data and an event of the script's. No n_jobs.
# Source: Python's manual on contextvars; joblib questions on thread locals
# Kind: D
# Told: runs in this process: it cannot be sent to workers
# Slow
import contextvars
import threading
from joblib import Parallel, delayed

depth = contextvars.ContextVar("depth", default=1)
local = threading.local()
local.name = "main"
stop = threading.Event()
depth.set(7)


def seen(number):
    return depth.get() + number, stop.is_set()


def named(number):
    return getattr(local, "name", None), number


print(Parallel()(delayed(seen)(number) for number in range(3)))
stop.set()
print(Parallel()(delayed(seen)(number) for number in range(2)))
print(Parallel()(delayed(named)(number) for number in range(2)))
