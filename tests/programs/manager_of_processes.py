# A multiprocessing manager holds a dictionary and a counter that all tasks change, with n_jobs=2.
# Source: joblib#1145, Stack Overflow "joblib with multiprocessing.Manager: AuthenticationError"
# Kind: E
# Told in pods: runs in this process: it cannot be read on workers
# Slow
from multiprocessing import Manager
from joblib import Parallel, delayed


def work(shared, lock, number):
    with lock:
        shared["total"] = shared.get("total", 0) + number
        shared[number] = number**2
    return number


if __name__ == "__main__":
    with Manager() as manager:
        shared, lock = manager.dict(), manager.Lock()
        print(Parallel(n_jobs=2)(delayed(work)(shared, lock, number) for number in range(8)))
        print(sorted(shared.items(), key=str))
