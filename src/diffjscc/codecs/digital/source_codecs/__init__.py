"""Source codecs: lossy compression of images to bytes."""
