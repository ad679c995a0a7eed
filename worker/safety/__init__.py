"""The gate every image passes.

`checker` (the protocol, and the checker that passes everything), `verdict` (what a finding means: pure), `replacement`
(what leaves in a censored image's place), `gate` (the checker that keeps the child and asks it), `child_process` (the
child as seen from here), `child/` (runs in the engine's environment with horde-safety; imports nothing of the worker).
"""
