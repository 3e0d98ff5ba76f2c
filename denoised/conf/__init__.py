"""Hydra groups: the scale of a run, the model it samples from, the data it is measured against."""
