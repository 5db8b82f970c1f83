"""The Dask operator: its manifests, its installation, whether it runs."""
