# %% [markdown]
# # From a notebook
# The cells below run in Jupyter, in an editor, or as `python examples/notebook_style.py`.
# The cluster exists for the one cell that needs it.

# %%
from time import perf_counter

from scipy.stats import loguniform
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skjob

# %%
X, y = load_wine(return_X_y=True)
print(f"{X.shape[0]} wines, {X.shape[1]} measurements each")

# %%
search = RandomizedSearchCV(
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    {"logisticregression__C": loguniform(1e-3, 1e2)},
    n_iter=10,
    cv=RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0),
    random_state=0,
)

# %%
with skjob.cluster(workers=2) as client:
    began = perf_counter()
    search.fit(X, y)
    seconds = perf_counter() - began
    print(f"fitted on {len(client.ncores())} workers")

# %%
print(f"best C:     {search.best_params_['logisticregression__C']:.4f}")
print(f"best score: {search.best_score_:.4f}")
print(f"fitted in {seconds:.1f} s")
