# A configuration is a Python file that the script loads by its path; it holds a transformer.
# Source: Stack Overflow "import a module given the full path"
# Kind: D
# Slow
import importlib.util
import sys
import tempfile
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

path = Path(tempfile.mkdtemp()) / "experiment-7.py"
path.write_text("import numpy as np\nPOWER = 2\ndef features(X):\n    return np.c_[X, X ** POWER]\n")
spec = importlib.util.spec_from_file_location("experiment", path)
config = importlib.util.module_from_spec(spec)
sys.modules["experiment"] = config
spec.loader.exec_module(config)
print(
    cross_val_score(
        make_pipeline(FunctionTransformer(config.features), LogisticRegression(max_iter=5000)),
        *load_iris(return_X_y=True),
        cv=3,
    )
    .round(4)
    .tolist()
)
