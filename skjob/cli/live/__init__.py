"""The live view of a run: lines at the bottom of the terminal, below a scroll region in which the program writes.

The program keeps the terminal itself: its stdin, stdout and stderr are what they are in plain Python. `content.py` says
what the lines show, `screen.py` where they are, `terminal.py` is the terminal, and `view.py` draws.
"""
