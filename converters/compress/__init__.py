"""Smaller weights for both formats: what each precision means, and how each format stores it."""
