"""A random forest on the breast cancer data: its trees are what runs in parallel.

skjob run examples/random_forest.py --workers 2
"""

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

cancer = load_breast_cancer(as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(
    cancer.data, cancer.target, test_size=0.3, stratify=cancer.target, random_state=0
)

forest = RandomForestClassifier(n_estimators=200, oob_score=True, n_jobs=-1, random_state=0)
forest.fit(X_train, y_train)

print(f"out-of-bag score: {forest.oob_score_:.4f}")
print(f"test accuracy:    {accuracy_score(y_test, forest.predict(X_test)):.4f}")
print(f"test ROC AUC:     {roc_auc_score(y_test, forest.predict_proba(X_test)[:, 1]):.4f}")

print("most important features:")
ranked = sorted(zip(forest.feature_importances_, X_train.columns, strict=True), reverse=True)
for importance, feature in ranked[:5]:
    print(f"  {feature:25} {importance:.3f}")
