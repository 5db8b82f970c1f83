"""How many workers a cluster has, by the work that waits."""
