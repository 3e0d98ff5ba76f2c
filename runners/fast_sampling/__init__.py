"""Fast sampling: the same network in fewer evaluations."""
