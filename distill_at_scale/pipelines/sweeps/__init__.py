"""What a sweep is made of: small datasets, evaluations, trials and their table, and what is read of a finished one."""
