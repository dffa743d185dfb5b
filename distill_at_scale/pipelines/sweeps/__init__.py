"""Parts of a sweep: small datasets, evaluations, trials and their table, hyper-parameter search, and the result."""
