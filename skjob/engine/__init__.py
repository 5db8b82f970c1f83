"""How scikit-learn's work becomes tasks: a joblib backend on any Dask client.

    import joblib, skjob.engine
    with joblib.parallel_config(backend="skjob", n_jobs=-1):
        search.fit(X, y)

Importing this package registers the backend. `backend.py` is what joblib sees, `parallel_call.py` sends and settles,
`task.py` runs on a worker. `transfer/` brings data and the user's own code to workers, `checkpoint/` keeps finished
fits, `fidelity/` sees that a program gets what plain Python gives it.
"""

from __future__ import annotations

from typing import Any


def _backend(**arguments: Any) -> Any:
    from joblib._parallel_backends import SequentialBackend

    from skjob.engine.backend import SkjobBackend, in_a_task

    return SequentialBackend() if in_a_task() else SkjobBackend(**arguments)


def register() -> None:
    """Make `backend="skjob"` known to joblib. Importing `skjob.engine` does it."""
    import joblib

    joblib.register_parallel_backend("skjob", _backend)


register()
