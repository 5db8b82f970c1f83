"""How many workers a cluster has, from the work that waits."""
