# A generator decides by the results so far which tasks there are; another call prints as its results come.
# Source: joblib#217, joblib#588 (results as a generator, and what is consumed ahead)
# Kind: A
# Told: the tasks of `task` (tasks_by_generator.py:29) began before the program took the results before them
# Told: runs in this process: its tasks come from the generator `tasks`, which may depend on their results
# Slow

from joblib import Parallel, delayed

stopped = False


def task(number):
    print("task", number)
    return number


def tasks():
    number = 0
    while not stopped:
        print("make", number)
        yield delayed(task)(number)
        number += 1


for result in Parallel(return_as="generator")(tasks()):
    print("got", result)
    stopped = result == 3

for result in Parallel(return_as="generator")(delayed(task)(number) for number in range(5)):
    print("got", result)

print(list(Parallel(return_as="generator_unordered")(delayed(task)(number) for number in range(5))))
