"""Give a program the same results as plain Python, wherever its tasks run.

Where a call runs: `call_router.py` decides, by the rules of `placement.py` for its first task. `local_calls.py` runs it
in the program's own process, `replay.py` records what it has consumed, and `monkeypatches.py` finds functions of
libraries that the program has replaced. `small_calls.py` knows which calls are too small to gain from workers,
`small_run.py` runs them, and `local_tasks.py` counts what runs locally.

What a task finds: `job_counts.py` answers how many jobs there are, `settings/` brings the settings of the program's
process, and `forks.py` makes processes that the program forks behave as in plain Python.

What comes back: `effects/` finds out what a task did besides returning a result, and gives code its identity back.
"""
