# The commonest end of a program: a ColumnTransformer with an own function, fitted and saved with joblib.dump. No
# n_jobs.
# Source: imbalanced-learn#703, Stack Overflow "can't pickle ... it's not the same object / not found as __main__"
# Kind: K
import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from steps import Half, double


def shifted(X):
    return np.asarray(X) + 1


frame = pd.DataFrame({"a": [1.0, 2, 3], "b": [4.0, 5, 6]})
for name, step in {
    "module function": FunctionTransformer(double),
    "script function": FunctionTransformer(shifted),
    "class": Half(),
}.items():
    model = ColumnTransformer([("own", step, ["a"]), ("rest", StandardScaler(), ["b"])]).fit(frame)
    try:
        joblib.dump(model, "model.joblib")
        print(name, "saved", joblib.load("model.joblib").transform(frame)[0].tolist())
    except Exception as error:
        print(name, type(error).__name__, str(error).split(" at 0x")[0])
    print(name, "same class", type(model.named_transformers_["own"]) is type(step))
