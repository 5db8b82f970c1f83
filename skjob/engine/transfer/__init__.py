"""What goes to workers beside tasks: shared data, the user's own modules, code by value."""
