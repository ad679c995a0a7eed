"""A job from pop to submit: `job` (what it is, its events), `runner` (its coroutine), `intake` (when to pop)."""
