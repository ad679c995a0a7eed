"""Background tasks for the owner: maintenance mode, and what follows after the machine was suspended."""
