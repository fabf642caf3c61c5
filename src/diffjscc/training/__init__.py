"""Training: one readable file per stage."""
