# Money is added up with a decimal context of the script's: precision and rounding decide the sums.
# Source: Python's manual on decimal ("contexts are per thread"); dask questions on decimal precision
# Kind: B
# Slow
import decimal
from decimal import Decimal
from joblib import Parallel, delayed

decimal.getcontext().prec = 5
decimal.getcontext().rounding = decimal.ROUND_UP


def share(total, parts):
    return Decimal(total) / Decimal(parts)


print(Parallel()(delayed(share)(total, 7) for total in (1, 10, 1000)))
with decimal.localcontext(prec=12):
    print(Parallel()(delayed(share)(total, 7) for total in (1, 10, 1000)))
print(share(1, 3))
