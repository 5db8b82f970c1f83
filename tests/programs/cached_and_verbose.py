# A search with a joblib.Memory in another place at each run. The kept fits must not change what is found.
# Source: scikit-learn's manual, "Caching transformers"; TPOT#1228
# Kind: H
# Twice
# Slow
from shutil import rmtree
from tempfile import mkdtemp
from joblib import Memory
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

folder = mkdtemp()
pipe = Pipeline([("pca", PCA(svd_solver="full")), ("knn", KNeighborsClassifier())], memory=Memory(folder, verbose=0))
search = GridSearchCV(pipe, {"pca__n_components": [2, 4], "knn__n_neighbors": [1, 5]}, cv=3)
search.fit(*load_wine(return_X_y=True))
print(search.best_params_, search.cv_results_["mean_test_score"].tolist())
rmtree(folder)
