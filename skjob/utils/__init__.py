"""Small helpers that know nothing of skjob's other rooms."""
