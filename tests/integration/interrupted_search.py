"""A search that test_faults.py kills half-way and then runs again.

It writes messages about stored fits to stderr, and its scores to stdout.
"""

import sys
from functools import partial
from pathlib import Path

import joblib
from distributed import Client
from sleeping_fits import Fits, X, Y, search_of

from skjob.engine.backend import SkjobBackend
from skjob.engine.checkpoint.fit_cache import FitCache


def main() -> None:
    address, folder = sys.argv[1], Path(sys.argv[2])
    with Client(address, set_as_default=False) as client:
        fits = FitCache(str(folder / "store"), notify=partial(print, file=sys.stderr))
        with joblib.parallel_config(backend=SkjobBackend(client, checkpoint=fits), n_jobs=-1):
            search = search_of(Fits(folder), 12).fit(X, Y)
        fits.close()
        print(search.cv_results_["mean_test_score"].tolist())


if __name__ == "__main__":
    main()
