"""The running worker from outside: a page, an interface for programs, metrics and probes, all by one HTTP server.

It reads the status and steers by it; of the running parts it knows nothing else. Everything that comes in passes
`security` (who is it, and is it ours) and `connections` (not too many, not too slow). `pages`, `actions`, `sign_in`,
`settings_page` and `workers` answer browsers with `templates`, which get their words from `views`; `events` keeps open
pages up to date. `api` and `metrics` answer programs.
"""
