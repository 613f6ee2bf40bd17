"""Thresholds and smoothing from labelled recordings."""
