"""Which job next, and whether one: `pop_admission` gives the one answer, `intake` pops by it.

`planner` and `offer` decide what to ask for, `fault_limiter` and `pop_backoff` when to pause; `wait_log` tells the
reasons, `estimates/` what was learned per model and device.
"""
