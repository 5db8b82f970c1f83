"""Offline runs: the candidates of a grid search as steps, its table, and the best score in the summary."""

import wandb
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

X, y = load_wine(return_X_y=True)
settings = wandb.Settings(silent=True)
with wandb.init(project="wine", mode="offline", config={"folds": 4}, settings=settings) as run:
    grid = {"n_estimators": [10, 20], "max_depth": [2, 4]}
    search = GridSearchCV(RandomForestClassifier(random_state=0), grid, cv=run.config.folds, n_jobs=-1).fit(X, y)
    candidates = list(zip(search.cv_results_["params"], search.cv_results_["mean_test_score"]))
    for parameters, score in candidates:
        run.log({"score": score, **parameters})
    rows = [[*parameters.values(), score] for parameters, score in candidates]
    run.log({"candidates": wandb.Table(columns=[*grid, "score"], data=rows)})
    run.summary["best"] = search.best_score_
    print(run.step, dict(run.summary)["best"])
print(search.best_params_, search.best_score_)
print(search.cv_results_["mean_test_score"])
