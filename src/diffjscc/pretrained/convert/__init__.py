"""Conversion of the checkpoints that the paper's authors released."""
