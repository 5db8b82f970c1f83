"""One run, from its plan to its record: start a cluster, run the program, collect, release."""
