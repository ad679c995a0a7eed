"""The embedded Horde: API v2 on this machine, behaving as the live server was measured.

records     its nouns: requests, jobs, workers, deliveries, the books
schema      what a body may look like, and how the server says that it does not
rules       ttl, batch sizes, kudos, payloads: pure
matching    which request a pop is offered, and what is counted as skipped
admission   whether a request is accepted
directory   accounts and workers
queue, dispatch, books   requests that wait, jobs in hand, who answered what
storage     presigned uploads and downloads, in memory
views       answers as JSON
state       all of that as one state machine, `EmbeddedHorde`
faults, broken   what shall go wrong, and how it is made real
hostile     what hostile requesters and hosts send
app, server, __main__    HTTP, a thread, a process
"""
