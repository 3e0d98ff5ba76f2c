"""Foundations: the papers that the rest of the field stands on."""
