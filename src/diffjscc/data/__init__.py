"""Images: files, geometry, data sets, training crops."""
