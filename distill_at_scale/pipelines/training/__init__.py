"""Training: worker groups on Ray Train, the training loops that run on them, and fits in one process."""
