"""Keep a program's results those of plain Python, wherever its tasks run.

Where a call runs: `placement.py` decides by its first task, `replay.py` remembers what it has consumed,
`local_calls.py` runs it in the program's own process, and `patched.py` notices functions of libraries that the program
has replaced. `small_calls.py` knows which calls are too small to gain from workers, `small_run.py` runs them.

What a task finds: `job_counts.py` answers how many jobs there are, `settings/` brings the settings of the program's
process, and `forks.py` makes processes that the program forks those of plain Python.

What comes back: `effects/` tells what a task has done beside returning a result, and gives code its identity again.
"""
