"""Loading, saving, quantisation and the bundled weights."""
