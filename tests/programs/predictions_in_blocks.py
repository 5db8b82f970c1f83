# A fitted model predicts blocks of a Dask array, and an array is reduced; no client in the program.
# Source: dask-examples' parallel-prediction and blockwise ensembles
# Kind: G
# Slow
import dask.array as da
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500).fit(X, y)
large = da.from_array(X, chunks=(40, 4))
predicted = large.map_blocks(model.predict, dtype=y.dtype, drop_axis=1)
print(int((predicted == da.from_array(y, chunks=40)).sum().compute()))
print(
    large.mean(axis=0).compute().round(6).tolist(),
    float(da.linalg.svd(large.rechunk((40, 4)))[1].compute()[0].round(6)),
)
