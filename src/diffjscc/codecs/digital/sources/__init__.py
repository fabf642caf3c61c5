"""Source codecs: a picture to as few bytes as a quality allows, and back."""
