"""What the owner sees in the terminal: a line for each job, a status block every so often."""
