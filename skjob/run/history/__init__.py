"""Past runs, read from their records: which exist, what each did, and how two of them differ."""
