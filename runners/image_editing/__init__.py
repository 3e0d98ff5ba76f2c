"""Runners of the category image-editing."""
