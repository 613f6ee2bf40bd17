"""Real times of this machine: calls, cold starts."""
