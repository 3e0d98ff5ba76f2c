"""One file for each checkpoint in `zoo/`: what is trained, on what, and for how long."""
