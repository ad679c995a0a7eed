"""Which job next, and whether one: `admission` gives the one answer, `intake` pops by it.

`planner` and `offer` decide what to ask for, `fault_limiter` and `horde_status` when to pause; `wait` holds the
reasons, `estimates/` what was learned per model and device.
"""
