"""ComfyUIs side by side: one in use, others to be tried, the one before to go back to.

`shelf` (what stands there, and every change of it), `state` (which is in use, what is known of each), `sources` (where
a tree comes from), `tree` (what a tree is), `trial_report` (what a trial says), `probation` (whether one that is in use
is sound). The Python that runs a tree is made by `worker.engine.install.environments`.
"""
