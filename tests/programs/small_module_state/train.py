# Small calls with n_jobs use a module with state: in plain Python its changes are lost in processes.
# Source: counters in modules that joblib's tasks import
# Kind: I
# Slow

import helper
from joblib import Parallel, delayed

for _ in range(4):
    Parallel(n_jobs=2)(delayed(helper.work)(number) for number in range(3))
print(helper.COUNT, helper.NOTES)
