"""Plans: what a verb would take, before it runs."""
