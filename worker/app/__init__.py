"""A worker: `build` (from settings), `run` (until told to stop), `context` (its parts at work), `reload` (settings)."""
