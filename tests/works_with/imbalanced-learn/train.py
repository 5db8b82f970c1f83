"""A search over a pipeline that oversamples, and a forest that balances each of its trees."""

from imblearn.ensemble import BalancedRandomForestClassifier
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler

X, y = make_classification(1000, weights=[0.9], random_state=0)
pipeline = make_pipeline(StandardScaler(), SMOTE(random_state=0), LogisticRegression())
grid = {"smote__k_neighbors": [3, 5], "logisticregression__C": [0.1, 1.0]}
search = GridSearchCV(pipeline, grid, scoring="balanced_accuracy", cv=4, n_jobs=-1).fit(X, y)
print(search.best_params_, search.best_score_)
print(search.cv_results_["mean_test_score"])
forest = BalancedRandomForestClassifier(20, random_state=0, n_jobs=-1)
print(forest.fit(X, y).predict_proba(X)[:5])
print(cross_val_score(forest, X, y, scoring="balanced_accuracy", cv=4, n_jobs=-1))
