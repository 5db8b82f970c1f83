# A Parallel class of the program's own shows progress.
# Source: Stack Overflow "how can we use tqdm in a parallel execution with joblib", a subclass of Parallel
# Kind: I
# Slow
# Told: runs in this process: `ProgressParallel` shows the progress of each task

from joblib import Parallel, delayed


class ProgressParallel(Parallel):
    def __call__(self, tasks):
        self.shown = []
        results = super().__call__(tasks)
        print("shown", self.shown, "of", self.n_completed_tasks)
        return results

    def print_progress(self):
        self.shown.append(self.n_completed_tasks)


def square(number):
    return number * number


for _ in range(3):
    print(ProgressParallel()(delayed(square)(number) for number in range(4)))
plain = Parallel(n_jobs=2)
for _ in range(3):
    plain(delayed(square)(number) for number in range(4))
    print(plain.n_completed_tasks)
