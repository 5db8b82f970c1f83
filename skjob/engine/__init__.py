"""Run scikit-learn's parallel work as tasks of any Dask client: a joblib backend.

    import joblib, skjob.engine
    with joblib.parallel_config(backend="skjob", n_jobs=-1):
        search.fit(X, y)

Importing this package registers the backend. `backend.py` is what joblib sees, `parallel_call.py` runs one call with
the parts in `dispatch/`, and `task.py` runs on a worker. `transfer/` sends data and the user's own code to workers,
`checkpoint/` stores finished fits, and `fidelity/` gives a program the same results as plain Python.
"""

from __future__ import annotations

from typing import Any


def _backend(**arguments: Any) -> Any:
    from joblib._parallel_backends import SequentialBackend

    from skjob.engine.backend import SkjobBackend, in_a_task

    return SequentialBackend() if in_a_task() else SkjobBackend(**arguments)


def register() -> None:
    """Register `backend="skjob"` with joblib. Importing `skjob.engine` does this."""
    import joblib

    joblib.register_parallel_backend("skjob", _backend)


register()
