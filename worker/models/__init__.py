"""Models known, chosen, stored and fetched. See docs/models.md."""
