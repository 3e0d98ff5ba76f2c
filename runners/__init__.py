"""The methods: one file for each paper, found by name through `denoised.registry`."""
