"""What a user asks for, from every source, and what a platform team allows: the plan of a run."""
