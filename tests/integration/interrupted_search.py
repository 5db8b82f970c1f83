"""A search that is killed half-way, in a process of its own: the client of tests/integration/test_faults.py."""

import sys
from pathlib import Path

import joblib
from distributed import Client, LocalCluster

from skjob.engine.backend import SkjobBackend
from skjob.engine.finished import FinishedFits
from tests.integration.test_faults import Fits, X, Y, search_of


def main() -> None:
    folder = Path(sys.argv[1])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        fits = FinishedFits(str(folder / "store"), tell=print)
        with joblib.parallel_config(backend=SkjobBackend(client, checkpoint=fits), n_jobs=-1):
            search = search_of(Fits(folder), 12).fit(X, Y)
        fits.close()
        print(search.cv_results_["mean_test_score"].tolist())


if __name__ == "__main__":
    main()
