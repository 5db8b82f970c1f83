"""What tests on Kubernetes share: runs, namespaces, faults, attackers, and the order in which processes take tests."""
