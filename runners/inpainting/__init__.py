"""Inpainting: filling what is missing of a picture."""
