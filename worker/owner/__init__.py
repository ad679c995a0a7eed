"""Background tasks for the owner: maintenance mode, active hours, newer versions, what follows a suspended machine."""
