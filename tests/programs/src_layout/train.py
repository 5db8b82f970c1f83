# The project's package is in src/, its configuration in another folder; the script puts both on `sys.path`.
# Source: dask/distributed#344, dask-kubernetes#222
# Kind: D
# Slow
import sys

sys.path[:0] = ["src", "conf"]

from search_space import DEPTHS
from shop import Doubled
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

pipe = make_pipeline(Doubled(), DecisionTreeClassifier(random_state=0))
search = GridSearchCV(pipe, {"decisiontreeclassifier__max_depth": DEPTHS}, cv=3).fit(*load_iris(return_X_y=True))
print(search.best_params_, search.cv_results_["mean_test_score"].round(4).tolist())
print(search.best_estimator_[0].factor_, type(search.best_estimator_[0]) is Doubled)
