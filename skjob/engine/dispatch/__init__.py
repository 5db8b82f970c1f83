"""Send the batches of one Parallel call to workers, and settle each of them exactly once.

`batch.py` has the values, `outstanding.py` the tasks that have no outcome yet. `sender.py` pickles and sends them,
`cluster_watch.py` waits for workers and for the connection, `batch_results.py` hands results and errors to joblib,
`measurements.py` learns from them, and `quarantine.py` retries tasks whose workers died. `output_relay.py` shows the
program what its tasks printed. The thread that drives all this is in `parallel_call.py`, one level up.
"""
