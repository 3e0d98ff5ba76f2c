"""What a runner is given: arms, measuring, claims with a verdict, and the record of a run."""
