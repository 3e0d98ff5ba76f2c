"""Worlds: embedded data whose ground truth is known exactly, drawn on the fly from a seed."""
