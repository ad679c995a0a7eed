"""The gate every image passes: `checker` (the protocol)."""
