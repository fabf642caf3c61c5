"""Digital links: a source codec, a channel code and a modulation as one codec."""
