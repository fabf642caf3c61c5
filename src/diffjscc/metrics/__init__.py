"""Image quality metrics, distances between sets of images, and their networks' weights."""
