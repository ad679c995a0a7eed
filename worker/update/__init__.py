"""A newer version taken, and the old one taken again if the new one does not serve.

`releases` (what there is, which of it is next, and what is new in it; pure), `fetch` (the list and an archive, bounded
and checked by hash), `archive` (an archive unpacked, nothing outside its folder), `git_checkout` (the same for a
clone), `switch` (the one taken in the place of the other; runs before anything else of the worker, and repairs whatever
was interrupted), `trial` (a new version watched until it serves), `stage` (from an offer to a version that waits for
its switch).
"""
