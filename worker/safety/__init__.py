"""The safety check that every image passes before it leaves.

`checker` (the protocol, and a checker that checks nothing), `gate` (the checker that serves the Horde: keeps the child
and asks it, draws what is sent in place of a censored image), `child_process` (the child as the worker sees it),
`verdict` (what a finding means: pure), `child/` (runs in the engine's environment with horde-safety; imports nothing
of the worker).
"""
