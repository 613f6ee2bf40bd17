"""A checked bundle into a sample app."""
