"""Pictures: files, geometry, data sets, training crops."""
