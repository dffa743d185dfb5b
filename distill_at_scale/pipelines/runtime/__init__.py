"""What every verb stands on: the Ray session, tasks, passes over shards, progress, run records and output folders."""
