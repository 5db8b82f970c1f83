# A task asks the user and reads what is typed.
# Source: joblib#1082 (EOFError: input in a worker)
# Kind: E
# Told: runs in this process: its tasks read the standard input
# Stdin: 3 5 8
import sys
from joblib import Parallel, delayed


def asked(number):
    if number == 1:
        return [int(word) for word in sys.stdin.readline().split()]
    return number


print(Parallel()(delayed(asked)(number) for number in range(3)))
print(repr(sys.stdin.read()))
