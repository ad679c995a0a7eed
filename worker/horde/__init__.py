"""The AI Horde's API v2: `messages` (what is sent and received), `client` (the only module that talks to it)."""
