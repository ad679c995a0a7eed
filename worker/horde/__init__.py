"""The AI Horde's API v2. `messages`: what is sent and received; `client`: the only module that talks to it.

Around these: answers read (`pop_parser`, `error_mapping`), pictures brought and fetched (`storage`), waits (`backoff`),
the name and level that are told (`agent`, `feature_levels`), the account, the demand for models.
"""
