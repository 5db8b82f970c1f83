"""skjob."""
