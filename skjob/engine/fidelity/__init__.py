"""Keep a program's results those of plain Python, wherever its tasks run.

Where a call runs: `placement.py` decides by its first task, `replay.py` remembers what it has consumed,
`local_calls.py` runs it in the program's own process, `unpicklable.py` names what cannot travel, and `patched.py`
notices functions of libraries that the program has replaced. `small_calls.py`
knows which calls are too small to gain from workers, `small_run.py` runs them.

What a task finds: `job_counts.py` answers how many jobs there are, `settings.py` brings the settings of the program's
process (`process_settings.py` those of a whole process, `variables.py` and `program_reads.py` its environment), and
`draws.py` tells of global random generators.

What comes back: `marks.py` gives code its identity again, `logs.py` brings log records, `state.py` tells whether a task
has changed what it shares with the program, and `guard.py` stops it before an effect that a worker must not have.
"""
