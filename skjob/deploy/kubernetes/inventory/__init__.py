"""What skjob has in a namespace, whose it is, and its removal."""
