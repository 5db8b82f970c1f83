"""A random forest, as on a laptop: `n_jobs=-1` grows its trees on every core there is, and on every worker.

python examples/random_forest.py
skjob run --workers 2 examples/random_forest.py
"""

from time import perf_counter

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

X, y = make_classification(n_samples=10_000, n_features=40, n_informative=15, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

forest = RandomForestClassifier(n_estimators=100, n_jobs=-1, random_state=0)
began = perf_counter()
forest.fit(X_train, y_train)
seconds = perf_counter() - began

print(f"test accuracy: {accuracy_score(y_test, forest.predict(X_test)):.4f}")
print(f"test ROC AUC:  {roc_auc_score(y_test, forest.predict_proba(X_test)[:, 1]):.4f}")

print("most important features:")
ranked = sorted(zip(forest.feature_importances_, range(X.shape[1]), strict=True), reverse=True)
for importance, feature in ranked[:5]:
    print(f"  column {feature:2}  {importance:.3f}")
print(f"fitted in {seconds:.1f} s")
