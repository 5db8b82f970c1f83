"""A cluster within a Python session: a script, an interpreter or a notebook. `skjob.cluster()` and `skjob.Cluster`.

`session.py` opens and closes it, `observer.py` keeps what is known of it, and `lines.py` and `notebook.py` show that:
as lines, or as HTML that changes in its place (`html.py`). `output_history.py` keeps IPython from holding a cluster
that was shown. IPython is used where it is loaded already, and never imported by a script.
"""
