"""A pipeline whose stage is a run: parameters from `params.yaml`, metrics tracked, and reproduced only if they change."""

import json
import sys
from pathlib import Path

import yaml
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

params = yaml.safe_load(Path("params.yaml").read_text())
X, y = load_digits(return_X_y=True)
search = GridSearchCV(SVC(), {"C": params["C"], "gamma": params["gamma"]}, cv=3, n_jobs=-1).fit(X[:600], y[:600])
scores = {f"candidate {number}": score for number, score in enumerate(search.cv_results_["mean_test_score"])}
metrics = {"best": search.best_score_, **search.best_params_, **scores}
Path(sys.argv[1]).write_text(json.dumps(metrics))
