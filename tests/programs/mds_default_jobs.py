# A seeded embedding, n_jobs left alone. Expected: the same stress whichever way the program is run.
# Source: scikit-learn#10119 (MDS: n_jobs>1 should give what n_jobs=1 gives), #9287 (KMeans, alike)
# Kind: C
# Slow
import numpy as np
from sklearn.datasets import load_iris
from sklearn.manifold import MDS

X = load_iris().data[::3]
model = MDS(n_components=2, n_init=4, max_iter=60, random_state=7, init="random")
embedded = model.fit_transform(X)
print("stress", round(float(model.stress_), 4))
print("first point", np.round(embedded[0], 3).tolist())
