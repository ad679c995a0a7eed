"""What watches beside the jobs: `settings` (the file changes), `clock` (the machine slept), `maintenance`."""
