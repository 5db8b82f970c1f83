"""Programs with modules outside of the script's folder print the same as in plain Python."""

from pathlib import Path

import pytest
from local_runs import FinishedRun, LocalRuns

pytestmark = pytest.mark.integration

SCORES = "print(cross_val_score({estimator}, *load_iris(return_X_y=True), cv=3).round(4).tolist())"
IMPORTS = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
"""

ON_SYS_PATH = {
    "lib/shop/__init__.py": "",
    "lib/shop/features.py": """
from sklearn.base import BaseEstimator, TransformerMixin
SHIFT = 1
class Ratio(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        from shop.late import scale
        return scale(X) / (SHIFT + X.sum(axis=1, keepdims=True))
""",
    "lib/shop/late.py": "def scale(X): return 2 * X\n",
    "experiments/src/names.py": "WHO = 'src'\n",
    "lib/names.py": "WHO = 'lib'\n",
    "experiments/train.py": f"""
import sys
from pathlib import Path
here = Path(__file__).resolve().parent
sys.path.append(str(here.parent / "lib"))
sys.path.insert(0, str(here / "src"))
import shop.features
from shop.features import Ratio
{IMPORTS}
from joblib import Parallel, delayed
def who():
    import names
    return names.WHO, shop.features.SHIFT
shop.features.SHIFT = 3
print(Parallel()(delayed(who)() for _ in range(2)))
{SCORES.format(estimator="make_pipeline(Ratio(), LogisticRegression(C=100, max_iter=2000))")}
""",
}

AS_A_MODULE = {
    "proj/__init__.py": "import sys\nif sys.argv[0] == '-m': print('the package', sys.argv, __name__)\n",
    "proj/model.py": """
from sklearn.linear_model import LogisticRegression
class Own(LogisticRegression):
    def fit(self, X, y):
        from .tools import twice
        return super().fit(twice(X), y)
def make(): return Own(max_iter=500)
""",
    "proj/tools.py": "def twice(X): return 2 * X\n",
    "proj/train.py": f"""
import sys, os
{IMPORTS}
from .model import make
from . import tools
def score(estimator, X, y):
    from .tools import twice
    return float(estimator.score(twice(X), y))
if __name__ == "__main__":
    print(__package__, __spec__.name, sys.path[0] == os.getcwd(), os.path.relpath(sys.argv[0]), sys.argv[1:])
    print(cross_val_score(make(), *load_iris(return_X_y=True), cv=3, scoring=score, n_jobs=2).round(4).tolist())
""",
}

LOADED_BY_PATH = {
    "train.py": f"""
import importlib.util, sys, tempfile
from pathlib import Path
{IMPORTS}
from joblib import Parallel, delayed
def load(name, text, known):
    path = Path(tempfile.mkdtemp()) / "experiment-7.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    if known:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
SOURCE = '''
import numpy as np, threading
POWER = 2
lock = threading.Lock()
def features(X):
    return np.c_[X, X ** POWER]
class Tail:
    def __call__(self, X):
        with lock:
            return X[:, -2:]
'''
config = load("experiment", SOURCE.replace("lock:", "threading.Lock():"), known=True)
made = sys.modules["made"] = type(sys)("made")
exec("def cube(x): return x ** 3", made.__dict__)
from made import cube
hidden = load("hidden", SOURCE.replace("POWER = 2", "POWER = 3"), known=False)
def late(number):
    import experiment
    return number, experiment.POWER, hidden.POWER, config.features is not None, cube(2), made.cube(3)
print(Parallel()(delayed(late)(number) for number in range(3)))
config.POWER = 4
print(Parallel()(delayed(late)(number) for number in range(3)))
config = load("experiment", SOURCE.replace("POWER = 2", "POWER = 5").replace("lock:", "threading.Lock():"), known=True)
print(Parallel()(delayed(late)(number) for number in range(3)))
for transform in (config.features, config.Tail(), hidden.features):
    estimator = make_pipeline(FunctionTransformer(transform), LogisticRegression(max_iter=5000))
    {SCORES.format(estimator="estimator")}
""",
}


def _run_both(
    runs: LocalRuns, files: dict[str, str], program: str, *options: str, arguments: tuple[str, ...] = ()
) -> FinishedRun:
    for name, text in files.items():
        (runs.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (runs.folder / name).write_text(text)
    expected = runs.python(Path("-m" if options else program), *([program] if options else []), *arguments)
    assert expected.returncode == 0, expected.stderr
    ended = runs.run(Path(program), *options, arguments=arguments)
    assert (ended.returncode, ended.stdout) == (0, expected.stdout), ended.stderr
    return ended


@pytest.mark.slow  # also tested by the programs `sys_path` and `src_layout` of tests/programs
def test_modules_of_folders_that_the_script_adds_to_its_path(local_runs: LocalRuns) -> None:
    """Modules that these import later on workers are sent as well, and a change in one is another fit."""
    _run_both(local_runs, ON_SYS_PATH, "experiments/train.py")
    again = _run_both(local_runs, ON_SYS_PATH, "experiments/train.py")
    assert again.record["fits"]["found"] == 3
    changed = ON_SYS_PATH | {"lib/shop/late.py": "def scale(X): return 3 * X\n"}
    ended = _run_both(local_runs, changed, "experiments/train.py")
    assert ended.record["fits"].get("found", 0) == 0


@pytest.mark.slow  # also tested by the program `package_main`
def test_package_run_as_a_module(local_runs: LocalRuns) -> None:
    ended = _run_both(local_runs, AS_A_MODULE, "proj.train", "-m", arguments=("--depth", "3", "--json"))
    assert ended.record["program"] == "-m proj.train"
    assert "`--json` stands after the script and goes to it" in ended.stderr


def test_modules_loaded_by_their_path(local_runs: LocalRuns) -> None:
    _run_both(local_runs, LOADED_BY_PATH, "train.py")
