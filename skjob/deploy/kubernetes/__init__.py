"""A Dask cluster on Kubernetes, under the anchor: an owner Job that everything of it hangs on."""
