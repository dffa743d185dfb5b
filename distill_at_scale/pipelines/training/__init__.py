"""Models fitted by groups of workers: the worker group of Ray Train, its loops, and fits in one process."""
