import pickle
from pathlib import Path

model = pickle.loads(Path("search.pickle").read_bytes())
print(
    "served",
    model.predict([[6.0, 3.0, 5.0, 2.0], [5.0, 3.5, 1.4, 0.2]]).tolist(),
    type(model.best_estimator_).__module__,
)
