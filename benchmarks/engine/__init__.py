"""The engine beside its peers: `runner` measures the cases of the other modules and prints one table."""
