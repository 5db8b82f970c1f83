"""Keep a program's results those of plain Python, wherever its tasks run.

`marks.py` gives code that comes back from workers its identity again, `job_counts.py` answers how many jobs there are,
`placement.py` decides whether a call goes to workers, `replay.py` remembers what a call has consumed,
`local_calls.py` runs a call in the program's own process, `state.py` tells whether a task has changed what it shares
with the program, and `guard.py` stops a task before an effect that must not happen on a worker.
`settings.py` takes what the program has set in its process and gives it to tasks, `process_settings.py` what a process
has only once, `variables.py` and `program_reads.py` tell which environment variables code reads, `draws.py` notices
draws from a global generator, and `logs.py` brings log records to the program.
"""
