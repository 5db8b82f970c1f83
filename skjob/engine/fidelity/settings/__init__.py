"""The settings of the program's process, which tasks find on workers too."""
