"""LoRAs and textual inversions that jobs name."""
