"""Nets, their geometry, and where their pretrained weights come from."""
