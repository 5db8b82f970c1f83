"""Why pods do not run, in the user's words."""
