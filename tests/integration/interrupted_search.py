"""A search that is killed half-way, in a process of its own: the client of tests/integration/test_faults.py."""

import sys
from pathlib import Path

import joblib
from distributed import Client
from sleeping_fits import Fits, X, Y, search_of

from skjob.engine.backend import SkjobBackend
from skjob.engine.finished import FinishedFits


def main() -> None:
    address, folder = sys.argv[1], Path(sys.argv[2])
    with Client(address, set_as_default=False) as client:
        fits = FinishedFits(str(folder / "store"), tell=print)
        with joblib.parallel_config(backend=SkjobBackend(client, checkpoint=fits), n_jobs=-1):
            search_of(Fits(folder), 12).fit(X, Y)


if __name__ == "__main__":
    main()
