"""The Kubernetes API: which cluster, with which credentials, asked with deadlines."""
