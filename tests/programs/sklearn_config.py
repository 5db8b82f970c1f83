# Own tasks, by joblib's `delayed`, ask for scikit-learn's configuration that the script has set.
# Source: scikit-learn#25239 (config is not passed to joblib's workers)
# Kind: B
# Slow
import sklearn
from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer, StandardScaler


def kind_of_output(number):
    scaled = StandardScaler().fit_transform([[1.0], [number]])
    return type(scaled).__name__, sklearn.get_config()["assume_finite"]


def as_frame(X):
    assert type(X).__name__ == "DataFrame", type(X)
    return X.rename(columns=str.upper)


sklearn.set_config(transform_output="pandas")
print(Parallel()(delayed(kind_of_output)(number) for number in (2.0, 3.0)))
with sklearn.config_context(assume_finite=True, transform_output="default"):
    print(Parallel()(delayed(kind_of_output)(number) for number in (2.0, 3.0)))
pipe = make_pipeline(StandardScaler(), FunctionTransformer(as_frame), LogisticRegression())
print(cross_val_score(pipe, *load_iris(return_X_y=True, as_frame=True), cv=3, error_score="raise").round(4).tolist())
