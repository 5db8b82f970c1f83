# A pipeline that caches its transformers in a temporary folder. Run twice: the second time nothing should be fitted
# again.
# Source: scikit-learn manual "caching transformers", TPOT#959, #1228, scikit-learn#12323
# Kind: H
# Twice
# Slow
from shutil import rmtree
from tempfile import mkdtemp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

folder = mkdtemp()
X, y = load_digits(return_X_y=True)
pipe = Pipeline([("pca", PCA(svd_solver="full")), ("clf", LogisticRegression(max_iter=300))], memory=folder)
search = GridSearchCV(pipe, {"pca__n_components": [5, 10], "clf__C": [0.1, 1]}, cv=3).fit(X[:600], y[:600])
print(search.best_params_, round(search.best_score_, 4))
rmtree(folder)
