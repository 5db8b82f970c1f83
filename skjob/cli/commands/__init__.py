"""The subcommands of skjob, one file each."""
