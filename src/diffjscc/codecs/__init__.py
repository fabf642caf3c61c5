"""Codecs: images to complex symbols and back."""
