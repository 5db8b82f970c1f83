# The script evaluates models in a ProcessPoolExecutor, after it has itself used scikit-learn's parallel calls.
# Source: dask/dask#3813, scikit-learn's FAQ on multiprocessing
# Kind: F
# Slow
from concurrent.futures import ProcessPoolExecutor
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier


def evaluate(depth):
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0)
    return depth, round(float(cross_val_score(tree, *load_iris(return_X_y=True), cv=3).mean()), 4)


if __name__ == "__main__":
    print(evaluate(1))
    with ProcessPoolExecutor(2) as pool:
        print(list(pool.map(evaluate, (1, 2, 3))))
    print(evaluate(3))
