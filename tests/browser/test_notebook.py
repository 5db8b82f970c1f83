"""A real notebook in a real browser: what its reader sees of a cluster on this machine."""

from __future__ import annotations

import re

import psutil
import pytest
from jupyter_lab import BUILD, OpenNotebook

from skjob.deploy.dashboard import Pages, pages_at

pytestmark = pytest.mark.slow

SEARCH = """
    import time
    import skjob
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    class SlowSVC(SVC):
        def fit(self, X, y):
            time.sleep({seconds})
            return super().fit(X, y)

    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(SlowSVC(random_state=0), {{"C": [0.01, 0.1, 1.0, 10.0], "kernel": ["rbf", "linear"]}}, cv=5)
"""
FITS = 40
SAVED = r"interrupted; (\d+) fits are saved: run it again for the rest"


def test_a_cluster_for_a_cell(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            SEARCH.format(seconds=0.2),
            """
            with skjob.cluster(2, on="local") as client:
                search.fit(X, y)
            """,
            "print(client.status, search.best_score_ > 0.9)",
        ]
    )
    shown.run(0)
    shown.run(1, wait=False)
    shown.wait_for(lambda: "starting" in shown.text(1))
    shown.wait_for(lambda: "ready" in shown.text(1))
    counts = shown.wait_for(lambda: re.search(r"(\d+) of 40 fits", shown.text(1)))
    assert int(counts[1]) < FITS
    shown.wait_for(lambda: "left" in shown.text(1) and shown.count(1, "thead") == 1)
    assert shown.count(1, "[role=progressbar]") == 1
    shown.wait_for(lambda: shown.prompt(1) != "[*]:")
    text = shown.text(1)
    assert "SlowSVC" in text
    assert "40 of 40 fits" in text
    assert "ended" in text
    assert re.search(r"closed after \d+ s", text)
    assert "2 of 2 workers" in text
    assert "this machine: `on=` is `local`" in text
    rows = shown.text(1, ".sj-scroll tbody tr").splitlines()
    assert len(rows) == 5
    assert rows[0].split()[0] == "1"
    assert rows[0].split()[3] == "5/5"
    # Nothing of it is an error, and there is no other output.
    assert shown.count(1, ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']") == 0
    shown.run(2)
    assert shown.text(2).strip() == "closed True"
    outputs = shown.saved()["cells"][1]["outputs"]
    assert [output["output_type"] for output in outputs] == ["display_data", "display_data"]
    progress = "".join(outputs[1]["data"]["text/plain"])
    assert progress.startswith("skjob: 2 of 2 workers, ")
    assert "40 of 40 fits" in progress
    assert "text/html" in outputs[0]["data"]


def test_a_cluster_that_is_kept_over_cells(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            SEARCH.format(seconds=0.02),
            'cluster = skjob.Cluster(1, on="local")',
            "search.fit(X, y).best_score_ > 0.9",
            "cluster.scale(2)\ncluster",
            "print(sorted(cluster.client.ncores().values()))",
            'other = skjob.Cluster(1, on="local")\nprint(len(other.client.ncores()), other.name != cluster.name)',
            "cluster.close()\ncluster.close()\nprint(cluster.status, other.status)",
            "search.fit(X, y).best_score_ > 0.9",
            "other.close()\nsearch.fit(X, y).best_score_ > 0.9",
        ]
    )
    shown.run(0)
    shown.run(1)
    assert "ready" in shown.text(1)
    assert "1 of 1, each with 1 CPU" in shown.text(1)
    link = shown.wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+/status", shown.text(1)))[0]
    assert pages_at(int(link.split(":")[2].split("/")[0])) is Pages.DASHBOARD
    shown.run(2)
    assert "40 of 40 fits" in shown.text(2)
    assert "True" in shown.text(2)
    assert "fits" not in shown.text(1)
    shown.run(3)
    assert shown.count(3, ".skjob") == 1
    for cell in (1, 3):  # each card changes as the cluster does
        shown.wait_for(lambda cell=cell: "2 of 2, each" in shown.text(cell))
    shown.run(4)
    assert shown.text(4).strip() == "[1, 1]"
    shown.run(5)
    assert "1 True" in shown.text(5)
    shown.run(6)
    assert shown.text(6).strip() == "closed ready"
    assert re.search(r"closed after \d+ s", shown.text(1))
    assert link not in shown.text(1)
    assert "ready" in shown.text(5)
    shown.run(7)
    assert "40 of 40 fits" in shown.text(7)
    assert "1 of 1 workers" in shown.text(7)
    shown.run(8)
    assert shown.count(8, "[role=progressbar]") == 0  # plain joblib again


def test_a_cell_that_is_run_again_replaces_its_cluster_though_it_was_shown(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            "import skjob, weakref",
            'cluster = skjob.Cluster(1, on="local")\ncluster',
            "before, session = weakref.ref(cluster), cluster._session\nprint(cluster in Out.values())",
            "cluster",
            'cluster = skjob.Cluster(1, on="local")\ncluster',
            "print(before(), session.state.status, cluster.status)",
        ]
    )
    for cell in range(6):
        shown.run(cell)
    assert shown.text(2).strip() == "False"
    assert shown.text(5).strip() == "None closed ready"


def test_an_interrupt_says_how_many_fits_are_saved(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            SEARCH.format(seconds=0.5),
            """
            with skjob.cluster(2, on="local", checkpoint="fits"):
                search.fit(X, y)
            """,
            'cluster = skjob.Cluster(2, on="local", checkpoint="fits")',
            "search.fit(X, y)",
            "search.fit(X, y)",
        ]
    )
    shown.run(0)
    for cell in (1, 3):
        if cell == 3:
            shown.run(2)
        shown.run(cell, wait=False)
        shown.wait_for(lambda cell=cell: re.search(r"[1-9]\d* of 40 fits", shown.text(cell)))
        shown.interrupt()
        shown.wait_for(lambda cell=cell: "KeyboardInterrupt" in shown.text(cell))
        found = shown.wait_for(lambda cell=cell: re.search(SAVED, shown.text(cell)))
        assert int(found[1]) > 0
        assert "stopped" in shown.text(cell)
        shown.wait_until_ended(cell)
    shown.run(4)
    assert "40 of 40 fits" in shown.text(4)
    assert re.search(r"\d+ reused", shown.text(4))


def test_an_error_of_skjobs_has_none_of_its_frames(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            "import skjob",
            "def mine():\n    with skjob.cluster(-1, on='local'):\n        pass\n\nmine()",
            "cluster = skjob.Cluster(name='Not A Name', on='kubernetes')",
        ]
    )
    shown.run(0)
    shown.run(1)
    text = shown.text(1)
    assert "ConfigError: `workers=` must be a number of workers" in text
    assert "hint: `help(skjob.cluster)` lists the arguments" in text
    assert "mine()" in text
    assert not re.search(r"skjob/|contextlib", text)
    shown.run(2)
    assert "AccessError" in shown.text(2)
    assert "direct cause" not in shown.text(2)
    assert not re.search(r"skjob/\w+/", shown.text(2))


def test_a_kernel_that_is_restarted_leaves_nothing(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            'import os, skjob\ncluster = skjob.Cluster(2, on="local")\nprint(*cluster.client.run(os.getpid).values())',
            "print(os.getpid())",
        ]
    )
    shown.run(0)
    workers = [int(pid) for pid in shown.text(0).split() if pid.isdigit() and int(pid) > 100]
    assert len(workers) >= 2
    shown.restart()
    shown.wait_for(lambda: not any(map(psutil.pid_exists, workers)))


def test_values_of_a_program_are_text(notebook: OpenNotebook) -> None:
    shown = notebook(
        [
            """
            import skjob
            from sklearn.base import BaseEstimator, ClassifierMixin
            from sklearn.datasets import load_iris
            from sklearn.model_selection import GridSearchCV

            HOSTILE = "</style><img src=x onerror='document.body.dataset.attacked = 1'>"

            class Plain(ClassifierMixin, BaseEstimator):
                def __init__(self, value=""):
                    self.value = value
                def fit(self, X, y):
                    self.classes_ = [0]
                    return self
                def predict(self, X):
                    return [0] * len(X)

            Plain.__name__ = Plain.__qualname__ = HOSTILE
            X, y = load_iris(return_X_y=True)
            """,
            """
            import joblib
            with skjob.cluster(1, on="local"), joblib.parallel_config(n_jobs=2):
                GridSearchCV(Plain(), {"value": [HOSTILE, "b"]}, cv=3).fit(X, y)
            """,
        ]
    )
    shown.run(0)
    shown.run(1)
    assert "6 of 6 fits" in shown.text(1)
    assert "<img src=x" in shown.text(1)
    assert shown.count(1, "img") == 0
    assert shown.page.evaluate("document.body.dataset.attacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_to_look_at(notebook: OpenNotebook, scheme: str) -> None:
    shown = notebook(
        [
            SEARCH.format(seconds=0.4),
            f'cluster = skjob.Cluster(2, on="local", checkpoint="pictures-{scheme}")',
            "search.fit(X, y)",
        ]
    )
    shown.page.prefer(scheme)
    shown.run(0)
    shown.run(1)
    shown.run(2, wait=False)
    shown.wait_for(lambda: re.search(r"1\d of 40 fits", shown.text(2)))
    for width in (1280, 600):
        shown.page.resize(width, 900)
        shown.page.screenshot(BUILD / f"{scheme}-{width}.png")
    shown.wait_for(lambda: shown.prompt(2) != "[*]:")
    shown.page.resize(1280, 900)
    shown.page.screenshot(BUILD / f"{scheme}-ended.png")
    colours = shown.page.evaluate(
        "(() => { const card = getComputedStyle(document.querySelector('.skjob'));"
        " return [card.color, getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor]; })()"
    )
    text, background = (sum(map(int, re.findall(r"\d+", each)[:3])) for each in colours)
    assert (text < background) == (scheme == "light")
