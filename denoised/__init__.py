"""Denoised: diffusion papers in one sentence, one number and one command."""

__version__ = "0.1.0"
