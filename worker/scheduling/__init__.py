"""Which job next: `intake` (when to pop), `offer` and `planner` (what to ask for), `estimates` (what was learned)."""
