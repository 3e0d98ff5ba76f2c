"""The zoo: loading checkpoints, and the recipes that train the ones shipped in `zoo/`."""
