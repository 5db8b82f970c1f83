"""Find out what a task does besides returning a result: to the program's memory, to files, to processes."""
