"""What a task does beside returning a result: to the program's memory, to files, to processes."""
