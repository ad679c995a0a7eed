"""The AI Horde's API v2: `wire` (its messages), `client` (the only module that talks to it)."""
