"""The report of a run: one HTML file without scripts, which loads nothing; and its summary in Markdown."""
