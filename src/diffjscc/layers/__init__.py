"""Layers that codecs and refiners share."""
