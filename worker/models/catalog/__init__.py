"""What the Horde knows of models, and which of them the settings choose."""
