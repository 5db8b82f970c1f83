"""Find out where packages come from: the indexes that pip and uv are configured for."""
