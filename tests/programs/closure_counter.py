# A decorator of the script's counts calls in a variable of its closure, for two functions apart.
# Source: Stack Overflow "nonlocal counter in decorator and joblib"
# Kind: A
# Told: runs in this process: its tasks change `calls`
# Slow
from functools import wraps
from joblib import Parallel, delayed


def counted(function):
    calls = 0

    @wraps(function)
    def wrapper(*arguments):
        nonlocal calls
        calls += 1
        return function(*arguments), calls

    wrapper.calls = lambda: calls
    return wrapper


@counted
def double(number):
    return 2 * number


@counted
def square(number):
    return number**2


print(Parallel()(delayed(double)(number) for number in range(12)))
print(list(Parallel(return_as="generator")(delayed(square)(number) for number in range(5))))
print(double.calls(), square.calls())
