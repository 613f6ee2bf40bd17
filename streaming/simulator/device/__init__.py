"""Devices: profiles, callbacks, faults, compute times, traces of real ones."""
