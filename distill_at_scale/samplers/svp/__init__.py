"""SVP-CF: what a small proxy model finds hard is kept."""
