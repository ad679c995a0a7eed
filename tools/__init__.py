"""What writes generated pages: run as `python -m tools.NAME` from the repository."""
