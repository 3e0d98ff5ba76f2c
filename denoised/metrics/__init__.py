"""Metrics: what a number on the site measures, and how."""
