"""Read, check and run declared jobs: YAML files that name data, an estimator and a search."""
