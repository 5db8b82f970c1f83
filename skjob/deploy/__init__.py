"""Dask clusters, on this machine and on Kubernetes, and how many workers they have."""
