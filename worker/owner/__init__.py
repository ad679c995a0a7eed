"""What watches beside the jobs, for the owner: maintenance mode, and a machine that was suspended."""
