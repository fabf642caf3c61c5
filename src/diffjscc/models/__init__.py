"""Weights: what is saved, found and loaded."""
