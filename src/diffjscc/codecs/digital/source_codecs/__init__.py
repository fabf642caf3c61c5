"""Source codecs: an image to as few bytes as a quality allows, and back."""
