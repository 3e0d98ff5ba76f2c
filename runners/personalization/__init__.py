"""Personalization: teaching a text-to-image model a new subject from a few pictures."""
