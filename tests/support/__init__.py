"""Shared helpers for tests on Kubernetes: runs, namespaces, faults, attackers, and the order in which processes run
tests."""
