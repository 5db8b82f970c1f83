# A small pipeline with a ColumnTransformer, then 200 predictions of one row each, as a service or a simulation does.
# Source: scikit-learn#8186, #16143, joblib#982 (one-row predictions are slow), scikit-learn#29229
# Kind: I
# Slow
import time
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

frame = pd.DataFrame({"size": range(300), "kind": ["a", "b", "c"] * 100})
target = [i % 2 if i % 3 else 1 for i in range(300)]
columns = ColumnTransformer([("num", StandardScaler(), ["size"]), ("cat", OneHotEncoder(), ["kind"])])
model = make_pipeline(columns, LogisticRegression()).fit(frame, target)
began = time.perf_counter()
total = sum(int(model.predict(frame.iloc[[i]])[0]) for i in range(200))
middle = time.perf_counter()
knn = KNeighborsClassifier(algorithm="kd_tree").fit(frame[["size"]].to_numpy(), target)
near = sum(int(knn.predict([[i]])[0]) for i in range(200))
end = time.perf_counter()
print(total, near)
import sys

print(
    f"columns {1000 * (middle - began) / 200:.1f} ms a row, knn {1000 * (end - middle) / 200:.1f} ms a row",
    file=sys.stderr,
)
