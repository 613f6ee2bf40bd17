"""What any program needs and no net: errors, files, hashes, parsing."""
