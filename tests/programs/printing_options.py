# Tasks make text of arrays, numbers, dates and long integers, by settings that the script has made.
# Source: Stack Overflow "np.set_printoptions in joblib", "TZ and time.tzset in workers"
# Kind: B
# Told: runs in this process: its tasks read the arguments of the program
# Arguments: --depth 3
# Slow
import locale
import os
import sys
import time
import numpy as np
from joblib import Parallel, delayed

np.set_printoptions(precision=2, suppress=True)
os.environ["TZ"] = "Asia/Tokyo"
time.tzset()
sys.set_int_max_str_digits(5000)
locale.setlocale(locale.LC_ALL, "C.UTF-8")


def told(number):
    array = str(np.array([number / 3, 1e-9]))
    return array, time.strftime("%H:%M %Z", time.localtime(0)), len(str(10**4500)), __name__


print(Parallel()(delayed(told)(number) for number in (1, 2)))


def arguments(number):
    return sys.argv[1:], number


print(Parallel()(delayed(arguments)(number) for number in (1, 2)))
with np.printoptions(precision=4):
    print(Parallel()(delayed(told)(number) for number in (1, 2)))
