"""Run scikit-learn's parallel work as tasks of any Dask client: a joblib backend.

    import joblib, skjob.engine
    with joblib.parallel_config(backend="skjob", n_jobs=-1):
        search.fit(X, y)

Importing this package registers the backend, once joblib is imported. `backend.py` is what joblib sees,
`parallel_call.py` runs one call with the parts in `dispatch/`, and `task.py` runs on a worker. `transfer/` sends data
and the user's own code to workers, `checkpoint/` stores finished fits, `fidelity/` gives a program the same results as
plain Python, and `reporting/` reports what happens as events (`events.py`).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from skjob.utils.import_hooks import when_imported


def _backend(**arguments: Any) -> Any:
    from joblib._parallel_backends import SequentialBackend

    from skjob.engine.backend import SkjobBackend, in_a_task

    return SequentialBackend() if in_a_task() else SkjobBackend(**arguments)


def _register(joblib: ModuleType) -> None:
    joblib.register_parallel_backend("skjob", _backend)


# joblib takes half a second to import, which commands that only read a run's events need not pay.
when_imported("joblib", _register)
