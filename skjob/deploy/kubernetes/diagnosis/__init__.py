"""Why pods do not run, from what Kubernetes says of them, in the user's words."""
