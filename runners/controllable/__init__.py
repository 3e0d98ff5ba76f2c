"""Controllable generation: conditions that say where and in which shape, beside the text."""
