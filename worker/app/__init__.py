"""A worker: `build` (from settings), `run` (served until told to stop), `context` (its parts at work), `reload` (settings read again)."""
