# A program looks at the cause, the notes and the attributes of an exception that a task raises.
# Source: Stack Overflow "Python exception chaining", handlers that decide by `__cause__`
# Kind: E
# Slow

from joblib import Parallel, delayed


class AppError(Exception):
    def __init__(self, code, *, hint):
        super().__init__(code)
        self.code, self.hint = code, hint


def task(number):
    try:
        {}["key"]
    except KeyError as missing:
        error = AppError(number, hint="look")
        error.add_note("a note")
        raise error from missing


def within(number):
    try:
        {}["key"]
    except KeyError:
        raise ValueError(number)


def several(number):
    raise ExceptionGroup("several", [ValueError(1), TypeError("x")])


try:
    Parallel()(delayed(task)(number) for number in range(3))
except AppError as error:
    print(error.code, error.hint, error.__notes__, repr(error.__cause__), repr(error.__context__))
try:
    Parallel()(delayed(within)(number) for number in range(3))
except ValueError as error:
    print(error, repr(error.__context__))
try:
    Parallel()(delayed(several)(number) for number in range(3))
except* ValueError as group:
    print(group.exceptions)
except* TypeError as group:
    print(group.exceptions)
