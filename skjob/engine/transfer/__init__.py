"""Send to workers what tasks need: shared data, the user's own modules, code by value."""
