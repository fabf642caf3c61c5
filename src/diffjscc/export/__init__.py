"""Networks of a set of weights in formats of other programs."""
