"""Past runs, read from their records: which there are, what each did, and what two of them differ in."""
