"""Find out what is installed on this machine: distributions, editable packages, locks."""
