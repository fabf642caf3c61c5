"""Refiners: the initial image and what is known of the link, to the final image."""
