"""Commands about runs that have ended; they need no cluster."""
