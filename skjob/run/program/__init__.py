"""The process of the user's program: how it is started, watched, and what it is given."""
