"""A job from pop to submit: `job` (what it is, its events), `runner` (its coroutine), `journal` (ids to answer)."""
