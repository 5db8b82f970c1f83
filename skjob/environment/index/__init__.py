"""Where packages come from: the indexes that pip and uv are configured for."""
