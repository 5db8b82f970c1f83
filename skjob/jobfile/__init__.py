"""Declared jobs: a YAML file that names data, estimator and search, read, checked and run."""
