"""Diffusion itself: noise schedules, the denoiser that methods are written against, samplers, training."""
