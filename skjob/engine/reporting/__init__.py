"""Report what a program's Parallel calls do, as the events of `skjob.engine.events`.

`call_events.py` reports one call, `origin.py` finds out what made it, `fits.py` reads the fits of scikit-learn and
their results, and `worker_clocks.py` brings workers' times onto the client's clock. Nothing of this runs if nobody
listens, and nothing of it can break a call: an event that cannot be made is left out.
"""
