"""The owner's settings: `schema` (every key of bridgeData.yaml), `load` (yaml, .env, AIWORKER_* and flags into one)."""
