"""The running worker from outside: a page, an interface for programs, metrics and probes, all by one HTTP server.

It reads the status and steers by it; of the running parts it knows nothing else.
"""
