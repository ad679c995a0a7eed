"""Model files on this machine: where they lie, whether they are whole, which make room."""
