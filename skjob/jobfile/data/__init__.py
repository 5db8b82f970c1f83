"""Find, measure and place the tables of declared jobs, and train on data larger than memory."""
