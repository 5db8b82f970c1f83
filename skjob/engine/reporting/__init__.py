"""Report what a program's Parallel calls do, as the events of `skjob.engine.events`.

`call_events.py` reports one call, `origin.py` finds out what made it, `fits.py` reads scikit-learn's fits and their
results, and `worker_clocks.py` converts workers' times to the client's clock. Nothing here runs unless somebody
listens, and nothing here can break a call: an event that cannot be made is left out.
"""
