"""Child processes and signals.

`child` (environment, session, log and end of a child), `supervisor` (starts a child again whenever it is lost),
`orphans` (ends children of a killed run), `signals`, `file_lock`.
"""
