"""The phone's loop on a desktop."""
