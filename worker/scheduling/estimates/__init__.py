"""What was learned from jobs that ran: speed, memory, time to live, cooldowns of models."""
