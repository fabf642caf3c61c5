"""How good a reconstruction is, and how to show it."""
