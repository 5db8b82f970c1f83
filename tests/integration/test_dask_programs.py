"""Programs that already use Dask run unchanged on the cluster of a run.

Each prints the same as in plain Python, where Dask starts its own workers on this machine.
"""

from __future__ import annotations

import re

import pytest
from local_runs import LocalRuns
from waiting import MAX_TIME

SIZE = "`--workers`, `--worker-cpu` and `--worker-memory`"
NOTHING_DONE = "skjob: the workers of this run did nothing: the program had no task for them\n"

SEARCH = """
    import joblib
    from dask.distributed import Client
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    if __name__ == "__main__":
        client = Client({options})
        search = GridSearchCV(SVC(), {{"C": [0.1, 1, 10]}}, cv=3)
        with joblib.parallel_backend("dask"):
            search.fit(*load_iris(return_X_y=True))
        print(search.best_params_, round(search.best_score_, 4))
        print(client.submit(sum, [1, 2, 3]).result())
        client.close()
"""


@pytest.mark.parametrize("processes", [pytest.param(True, marks=pytest.mark.slow), False])
def test_client_with_options_uses_the_runs_cluster(local_runs: LocalRuns, processes: bool) -> None:
    options = f"n_workers=2, threads_per_worker=1, processes={processes}, dashboard_address=None"
    # In plain Python, threads give the same results as processes, and start faster.
    plain = local_runs.python(SEARCH.format(options=options.replace("True", "False")))
    ended = local_runs.run(SEARCH.format(options=options), "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, plain.stdout, plain.stderr), ended.stderr
    notice = (
        f"is the cluster of this run; {SIZE} say how large it is"
        if processes
        else "shares the memory of this process: its own tasks run here; joblib's backend `dask` has the workers of "
        "this run"
    )
    assert ended.stderr.count(f"skjob: `Client({options})` {notice}\n") == 1
    assert ended.record["fits"]["kept"] == 9
    assert NOTHING_DONE not in ended.stderr


CLOSES_ITS_CLIENTS = """
    import os, time

    import distributed
    import joblib
    from dask.distributed import Client, LocalCluster
    from joblib import Parallel, delayed

    def pid():
        time.sleep(0.1)  # calls that are too small to gain would run here
        return os.getpid()

    def on_workers():
        with joblib.parallel_config(backend="dask"):
            pids = set(Parallel()(delayed(pid)() for _ in range(8)))
        return os.getpid() not in pids and len(pids) <= 2

    if __name__ == "__main__":
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            with Client(cluster) as client:
                client.wait_for_workers(2)
                print(isinstance(cluster, distributed.LocalCluster), isinstance(client, distributed.Client))
                print(client.submit(max, 1, 2).result(), len(cluster.workers), on_workers())
            print(client.status)
        print(cluster.status.name)
        client = Client(n_workers=2, threads_per_worker=1)
        print(client.map(abs, [-1, -2])[1].result(), on_workers())
        client.shutdown()
        print(client.status)
        with Client(n_workers=2, threads_per_worker=1) as client:
            print(client.submit(min, 1, 2).result(), on_workers())
            held = client.submit(max, 1, 2)
            print(held.result())
            client.restart()
            print(held.status, client.submit(min, 3, 4).result(), on_workers())
"""
CLOSED_CLIENTS_OUTPUT = """True True
2 2 True
closed
closed
2 True
closed
1 True
2
cancelled 3 True
"""
"""The output of `CLOSES_ITS_CLIENTS`."""


@pytest.mark.slow
def test_expected_output_is_that_of_plain_python(local_runs: LocalRuns) -> None:
    plain = local_runs.python(CLOSES_ITS_CLIENTS)
    assert (plain.returncode, plain.stdout) == (0, CLOSED_CLIENTS_OUTPUT), plain.stderr


def test_closing_a_client_does_not_close_the_cluster(local_runs: LocalRuns) -> None:
    ended = local_runs.run(CLOSES_ITS_CLIENTS, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, CLOSED_CLIENTS_OUTPUT, ""), ended.stderr
    assert ended.stderr.count(" is the cluster of this run; ") == 1


def test_workers_have_the_resources_of_the_clients_options(local_runs: LocalRuns) -> None:
    program = """
        from dask.distributed import Client

        with Client(resources={"slots": 1}) as client:
            print(client.submit(sum, [1, 2], resources={"slots": 1}).result())
    """
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, "3\n", ""), ended.stderr
    assert "skjob: `Client(resources=…)` is the cluster of this run; " in ended.stderr


@pytest.mark.slow
def test_asynchronous_program(local_runs: LocalRuns) -> None:
    program = """
        import asyncio

        from dask.distributed import Client, LocalCluster

        async def main():
            async with LocalCluster(n_workers=2, dashboard_address=None, asynchronous=True) as cluster:
                async with Client(cluster, asynchronous=True) as client:
                    await client.wait_for_workers(2)
                    print(await client.submit(sum, [1, 2]))
            async with Client(n_workers=2, dashboard_address=None, asynchronous=True) as client:
                print(await client.gather(client.map(abs, [-1, -2])))
                await client.shutdown()
            print(client.status)

        if __name__ == "__main__":
            asyncio.run(main())
    """
    plain = local_runs.python(program)
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, plain.stdout, plain.stderr), ended.stderr
    assert ended.stdout == "3\n[1, 2]\nclosed\n"


def test_closing_the_runs_client_has_no_effect(local_runs: LocalRuns) -> None:
    program = """
        import os

        from dask.distributed import Client, get_client
        from joblib import Parallel, delayed

        address = Client.current().scheduler.address
        get_client().close()
        get_client().shutdown()
        with get_client() as client:
            pass
        again = Client(address)
        print(again.submit(sum, [1, 2]).result())
        again.shutdown()
        print(os.getpid() in Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4)))
        print(Client().submit(sum, [3, 4]).result())
    """
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, "3\nFalse\n7\n", ""), ended.stderr


def test_program_cannot_scale_the_cluster(local_runs: LocalRuns) -> None:
    program = """
        from dask.distributed import Client, LocalCluster

        if __name__ == "__main__":
            cluster = LocalCluster()
            cluster.scale(4)
            cluster.scale(1)
            adaptive = cluster.adapt(minimum=1, maximum=4)
            client = Client(cluster)
            client.wait_for_workers(4)
            print(adaptive.maximum, adaptive.stop(), client.submit(sum, [1, 2]).result())
    """
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, "4 None 3\n", ""), ended.stderr
    notices = [line for line in ended.stderr.splitlines() if re.search("`(LocalCluster|scale|adapt|wait)", line)]
    assert notices == [
        f"skjob: `LocalCluster()` is the cluster of this run; {SIZE} say how large it is",
        f"skjob: `scale` changes nothing: {SIZE} say how large the cluster of this run is",
        "skjob: `adapt` changes nothing: `--workers 1:10` lets the workers of this run come and go",
        "skjob: `wait_for_workers(4)` waits for 2: `--workers` says how many this run has",
    ]


def test_program_can_use_another_cluster(local_runs: LocalRuns) -> None:
    """It may be a cluster without TLS. joblib's backend `dask` uses the cluster of the program's latest client."""
    program = """
        import os, sys

        import joblib
        from dask.distributed import Client
        from joblib import Parallel, delayed

        def pids():
            with joblib.parallel_config(backend="dask"):
                return set(Parallel()(delayed(os.getpid)() for _ in range(4)))

        with Client(sys.argv[1]) as other:
            print(other.scheduler.address == sys.argv[1], pids() == set(other.run(os.getpid).values()))
        print(pids() <= set(Client.current().run(os.getpid).values()))
    """
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, protocol="tcp://", processes=False
    ) as cluster:
        ended = local_runs.run(program, "--max-time", MAX_TIME, arguments=[cluster.scheduler_address])
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (0, "True True\nTrue\n", ""), ended.stderr
    assert " of this run" not in ended.stderr


def test_other_joblib_backends_run_on_this_machine(local_runs: LocalRuns) -> None:
    program = """
        import os

        import joblib
        from dask.distributed import Client
        from joblib import Parallel, delayed

        for backend in ("loky", "threading", "multiprocessing"):
            with joblib.parallel_config(backend=backend, n_jobs=2):
                parents = set(Parallel()(delayed(os.getppid)() for _ in range(4)))
            print(backend, parents & {os.getpid(), os.getppid()} != set())
    """
    plain = local_runs.python(program)
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout) == (0, plain.stdout), ended.stderr
    assert ended.stderr.count(NOTHING_DONE) == 1


def test_unused_workers_are_reported(local_runs: LocalRuns) -> None:
    assert local_runs.run("print(1)").stderr.count(NOTHING_DONE) == 1
    submitting = "from dask.distributed import Client; print(Client.current().submit(sum, [1, 2]).result())"
    assert NOTHING_DONE not in local_runs.run(submitting).stderr
    assert NOTHING_DONE not in local_runs.run("import sys; sys.exit(3)").stderr


HEAD = """
    import joblib
    import numpy as np
    import dask.array as da
    from dask.distributed import Client

"""

KINDS = {
    "scale scikit-learn": """
        from sklearn.datasets import load_digits
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC

        client = Client(processes=False, threads_per_worker=2, n_workers=1, memory_limit="2GB", dashboard_address=None)
        X, y = load_digits(return_X_y=True)
        grid = {"C": [0.1, 1.0, 10.0], "kernel": ["rbf", "linear"], "shrinking": [True]}
        search = GridSearchCV(SVC(gamma="auto", random_state=0, probability=False), grid, cv=3, n_jobs=-1)
        with joblib.parallel_backend("dask"):
            search.fit(X[:200], y[:200])
        print(search.cv_results_["mean_test_score"], search.predict(X[:5]), round(search.score(X[:200], y[:200]), 4))
    """,
    "hyperparameter search": """
        from dask_ml.model_selection import GridSearchCV
        from sklearn.datasets import make_classification
        from sklearn.linear_model import LogisticRegression

        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X, y = make_classification(n_samples=200, random_state=0)
        search = GridSearchCV(LogisticRegression(), {"C": [0.01, 0.1, 1.0]}, cv=3)
        search.fit(X, y)
        print(search.best_params_, search.cv_results_["mean_test_score"])
    """,
    "incremental": """
        from dask_ml.datasets import make_classification
        from dask_ml.wrappers import Incremental
        from sklearn.linear_model import SGDClassifier

        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X, y = make_classification(n_samples=400, n_features=8, chunks=100, random_state=0)
        X, y = client.persist([X, y])
        classes = da.unique(y).compute()
        model = Incremental(SGDClassifier(random_state=0, tol=1e-3), scoring="accuracy", shuffle_blocks=False)
        model.fit(X, y, classes=classes)
        print(model.coef_.round(6), model.score(X, y))
    """,
    "parallel prediction": """
        from dask_ml.wrappers import ParallelPostFit
        from sklearn.datasets import make_classification
        from sklearn.ensemble import GradientBoostingClassifier

        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X, y = make_classification(n_samples=200, random_state=0)
        model = ParallelPostFit(GradientBoostingClassifier(n_estimators=10, random_state=0), scoring="accuracy")
        model.fit(X, y)
        large = da.concatenate([da.from_array(X, chunks=X.shape) for _ in range(3)])
        print(model.predict(large).compute().sum(), model.predict_proba(large).compute()[:3].round(6))
    """,
    "voting classifier": """
        from sklearn.datasets import make_classification
        from sklearn.ensemble import VotingClassifier
        from sklearn.linear_model import LogisticRegression, SGDClassifier
        from sklearn.svm import SVC

        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X, y = make_classification(n_samples=200, random_state=0)
        members = [("sgd", SGDClassifier(random_state=0)), ("lr", LogisticRegression()), ("svc", SVC(gamma="auto"))]
        vote = VotingClassifier(members, n_jobs=-1)
        with joblib.parallel_backend("dask", scatter=[X, y]):
            vote.fit(X, y)
        print(vote.predict(X).sum(), vote.estimators_[1].coef_.round(6))
    """,
    "blockwise ensemble": """
        import dask_ml.datasets, dask_ml.ensemble
        from sklearn.linear_model import RidgeClassifier

        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X, y = dask_ml.datasets.make_classification(n_samples=400, n_features=8, chunks=100, random_state=0)
        model = dask_ml.ensemble.BlockwiseVotingClassifier(RidgeClassifier(random_state=0), classes=[0, 1])
        model.fit(X, y)
        print(len(model.estimators_), model.predict(X).compute().sum(), model.estimators_[0].coef_.round(6))
    """,
    "generalized linear model": """
        from dask_ml.datasets import make_classification
        from dask_ml.linear_model import LogisticRegression

        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X, y = make_classification(n_samples=400, n_features=8, chunks=100, random_state=0)
        model = LogisticRegression(solver="lbfgs", max_iter=20)
        model.fit(X, y)
        print(model.coef_.round(4), model.predict(X).compute().sum())
    """,
    "singular values": """
        client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        X = da.random.RandomState(0).random((400, 10), chunks=(100, 10)).persist()
        u, s, v = da.linalg.svd(X)
        print(s.compute().round(6), v.compute().shape)
        u, s, v = da.linalg.svd_compressed(X, k=3, seed=0)
        print(s.compute().round(4))
    """,
}


IN_MAKE_TEST = {"scale scikit-learn"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in IN_MAKE_TEST)) for kind in KINDS]
)
def test_dask_examples_print_the_same(local_runs: LocalRuns, kind: str) -> None:
    lines = [f"        {line[4:]}" if line.strip() else "" for line in KINDS[kind].splitlines()]
    program = HEAD + '    if __name__ == "__main__":\n' + "\n".join(lines)
    plain = local_runs.python(program)
    assert plain.returncode == 0, plain.stderr
    ended = local_runs.run(program, "--max-time", MAX_TIME)
    assert (ended.returncode, ended.stdout) == (0, plain.stdout), ended.stderr
    assert NOTHING_DONE not in ended.stderr
