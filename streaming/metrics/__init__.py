"""Figures: parity, detection, quality, quantiles, intervals."""
