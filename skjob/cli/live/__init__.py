"""Show a live view of a run: lines at the bottom of the terminal, below the scroll region in which the program writes.

The program keeps the terminal itself: its stdin, stdout and stderr are the same as in plain Python. `content.py`
decides what the lines show, `screen.py` where they are, `terminal.py` accesses the terminal, and `view.py` draws.
"""
