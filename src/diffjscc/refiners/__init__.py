"""Refiners: the initial picture and what is known of the link, to the final picture."""
