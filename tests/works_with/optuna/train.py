"""A study whose objective is a cross-validation, with a sampler that learns from each trial, kept in SQLite."""

import optuna
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

optuna.logging.set_verbosity(optuna.logging.WARNING)
X, y = load_digits(return_X_y=True)


def objective(trial):
    forest = RandomForestClassifier(
        n_estimators=trial.suggest_int("n_estimators", 5, 20),
        max_depth=trial.suggest_int("max_depth", 2, 8),
        random_state=0,
    )
    return cross_val_score(forest, X[:600], y[:600], cv=4, n_jobs=-1).mean()


sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=4)
study = optuna.create_study(storage="sqlite:///study.db", direction="maximize", sampler=sampler)
study.optimize(objective, n_trials=8)
for trial in study.trials:
    print(trial.number, trial.state.name, trial.params, trial.value)
print(study.best_params, study.best_value)
