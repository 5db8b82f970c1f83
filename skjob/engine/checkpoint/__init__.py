"""Finished fits: what a fit is known by, where it is kept, and how it is found again."""
