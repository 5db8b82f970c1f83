"""Autologging of a grid search with its candidates as nested runs, and a run that logs a cross-validation afterwards."""

import mlflow
from mlflow import MlflowClient
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

X, y = load_digits(return_X_y=True)
X, y = X[:600], y[:600]
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("digits")
mlflow.sklearn.autolog(log_models=False, max_tuning_runs=None, silent=True)
with mlflow.start_run() as searched:
    GridSearchCV(SVC(), {"C": [0.1, 1.0, 10.0], "gamma": [1e-3, 1e-2]}, cv=3, n_jobs=-1).fit(X, y)

mlflow.sklearn.autolog(disable=True)
scores = cross_val_score(SVC(C=10.0), X, y, cv=4, n_jobs=-1)
with mlflow.start_run(run_name="afterwards") as afterwards:
    mlflow.log_metric("mean", scores.mean())

client = MlflowClient()
logged = client.get_run(searched.info.run_id).data
print({name: value for name, value in sorted(logged.params.items()) if name.startswith("best")})
print(logged.metrics["best_cv_score"])
nested = client.search_runs([searched.info.experiment_id], f"tags.mlflow.parentRunId = '{searched.info.run_id}'")
for run in sorted(nested, key=lambda run: (run.data.params["C"], run.data.params["gamma"])):
    print(run.data.params["C"], run.data.params["gamma"], run.data.metrics["mean_test_score"])
print(client.get_run(afterwards.info.run_id).data.metrics["mean"])
