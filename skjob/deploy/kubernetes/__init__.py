"""A Dask cluster on Kubernetes, under an owner Job, the anchor, which everything of it hangs on."""
