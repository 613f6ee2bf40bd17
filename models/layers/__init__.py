"""Blocks that nets share, written so that both converters take them as they are."""
