"""The demo page: an image, a link, and what comes out of it, in a browser."""
