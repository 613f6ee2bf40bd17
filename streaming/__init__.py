"""The phone's loop on a desktop: resample, buffer, infer, act, and compare. Light: numpy only."""
