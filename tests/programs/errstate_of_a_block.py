# One call stands in a block of `numpy.errstate`, the next one does not; tasks say what they have met.
# Source: numpy#10862 and questions on np.errstate in threads and processes
# Kind: B
# Slow
import warnings
import numpy as np
from joblib import Parallel, delayed

warnings.simplefilter("ignore")


def log_of(number):
    try:
        return float(np.log(np.array([number, 1.0])).min())
    except FloatingPointError as error:
        return str(error)


with np.errstate(divide="raise", invalid="ignore"):
    print(Parallel()(delayed(log_of)(number) for number in (1.0, 0.0, -1.0)))
with np.errstate(all="ignore"):
    print(Parallel()(delayed(log_of)(number) for number in (1.0, 0.0, -1.0)))
print(Parallel()(delayed(np.geterr)() for _ in range(2)))
