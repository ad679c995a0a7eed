"""Child processes and what the system tells this one: started, noted as ours, ended; signals; file locks."""
