# Functions by type of argument, a cached method, partials and methods of objects as tasks.
# Source: cloudpickle#178, dask/distributed#5998
# Kind: D
# Slow
from functools import cache, partial, partialmethod, singledispatch
from joblib import Parallel, delayed


@singledispatch
def describe(value):
    return f"a {type(value).__name__}"


@describe.register
def _(value: int):
    return f"the number {value}"


@describe.register(list)
def _(value):
    return [describe(each) for each in value]


@cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def apply(self, value, power=1):
        return self.factor * value**power

    squared = partialmethod(apply, power=2)

    @property
    def twice(self):
        return Scale(2 * self.factor)


scale = Scale(3)
print(Parallel()(delayed(describe)(value) for value in (1, 2.5, [1, "a"])))
print(Parallel()(delayed(fibonacci)(n) for n in (10, 50, 90)))
print(Parallel()(delayed(partial(scale.squared))(value) for value in (1, 2)))
print(Parallel(n_jobs=2)(delayed(scale.twice.apply)(value) for value in (1, 2)))
