"""The nets of the catalogue, a folder each."""
