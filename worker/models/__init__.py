"""Model records and files: `reference` (what a name means), `store` (where its files are)."""
