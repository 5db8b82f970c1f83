"""The objects of a run, as Kubernetes takes them."""
