# Tasks print, and so does the script between its calls and as it reads results. No n_jobs: all is in order.
# Source: joblib#138 and Stack Overflow "print inside joblib Parallel"
# Kind: A
# Slow
import sys
from joblib import Parallel, delayed


def work(number):
    print("task", number)
    print("  to", file=sys.stdout, end=" ")
    print(number**2)
    return number**2


print("first call")
print(sum(Parallel()(delayed(work)(number) for number in range(6))))
print("second call")
print(sum(Parallel()(delayed(work)(number) for number in range(6, 9))))
