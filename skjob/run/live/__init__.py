"""What is shown of a run while it goes on, without how: the terminal and the notebook draw the same numbers."""
