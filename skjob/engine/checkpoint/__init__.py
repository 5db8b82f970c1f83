"""Store the results of finished fits under keys that identify them, and reuse them in later runs."""
