# dask.delayed and dask.bag on whatever client there is; `Client()` without options.
# Source: Dask's tutorial, "dask.delayed"
# Kind: G
# Slow
import dask
from dask import delayed


@delayed
def load(number):
    return list(range(number))


@delayed
def total(numbers):
    return sum(numbers)


sums = [total(load(number)) for number in range(5)]
print(dask.compute(*sums), delayed(sum)(sums).compute(scheduler="synchronous"), delayed(max)(sums).compute())
