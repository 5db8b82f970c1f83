"""The Kubernetes API: the cluster, the credentials, and requests with deadlines."""
