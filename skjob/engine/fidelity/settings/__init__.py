"""Bring the settings of the program's process to its tasks on workers."""
