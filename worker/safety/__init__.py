"""The gate every image passes.

`checker` (the protocol, and the checker that passes everything), `verdict` (what a finding means: pure),
`replacement` (what leaves in a censored image's place), `horde` (the checker: keeps the child and asks it),
`child/` (runs inside the engine's environment with horde-safety, and imports nothing of the worker).
"""
