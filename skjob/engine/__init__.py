"""How scikit-learn's work becomes tasks: a joblib backend on any Dask client.

    import joblib, skjob.engine
    with joblib.parallel_config(backend="skjob", n_jobs=-1):
        search.fit(X, y)

Importing this package registers the backend. `backend.py` is what joblib sees, `call.py` dispatches and settles,
`data.py` ships large arguments once, `local_code.py` tells the user's own modules from those of an environment, which
`modules.py` and `import_path.py` ship, `task.py` is the part that runs on a worker, and `finished.py` finds and keeps
the fits that are done.
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
