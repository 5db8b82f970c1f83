"""How good is a gradient boosting regressor on the diabetes data, and is it better than ridge regression?

python examples/pipeline_cross_val_score.py
skjob run --workers 2 examples/pipeline_cross_val_score.py
"""

from time import perf_counter

from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import RepeatedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_diabetes(return_X_y=True)
folds = RepeatedKFold(n_splits=5, n_repeats=2, random_state=0)

candidates = {
    "ridge": make_pipeline(StandardScaler(), Ridge(alpha=10.0)),
    "gradient boosting": make_pipeline(
        StandardScaler(),
        GradientBoostingRegressor(n_estimators=100, learning_rate=0.05, max_depth=2, random_state=0),
    ),
}

for name, model in candidates.items():
    began = perf_counter()
    errors = -cross_val_score(model, X, y, cv=folds, scoring="neg_root_mean_squared_error", n_jobs=-1)
    seconds = perf_counter() - began
    told = f"RMSE {errors.mean():.2f} ± {errors.std():.2f} over {len(errors)} folds"
    print(f"{name:20} {told}, fitted in {seconds:.1f} s")
