"""The events of a run beside its record, and what they add up to."""
