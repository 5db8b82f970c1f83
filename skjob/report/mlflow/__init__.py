"""Log to MLflow what came of a run: `log.py`. What is logged is in `entries.py`; `process.py` does it."""
