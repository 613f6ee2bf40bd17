"""Audio and labels on disk, and offline runs over them."""
