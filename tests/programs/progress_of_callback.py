# A program shows the progress of its calls by a class in the place of joblib's callback, and adds a method to loggers.
# Source: Stack Overflow "tracking progress of joblib.Parallel execution", the answer with `tqdm_joblib`
# Kind: I
# Slow

import contextlib
import logging

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


@contextlib.contextmanager
def shown(done):
    class Callback(joblib.parallel.BatchCompletionCallBack):
        def __call__(self, *arguments, **keywords):
            done.append(self.batch_size)
            return super().__call__(*arguments, **keywords)

    original = joblib.parallel.BatchCompletionCallBack
    joblib.parallel.BatchCompletionCallBack = Callback
    try:
        yield
    finally:
        joblib.parallel.BatchCompletionCallBack = original


def trace(self, message, *arguments):
    self._log(5, message, arguments)


logging.Logger.trace = trace
X, y = load_iris(return_X_y=True)
done = []
with shown(done):
    print(cross_val_score(LogisticRegression(max_iter=500), X, y, cv=4, n_jobs=2))
print(sum(done), "of 4 done")
