"""Where weights and audio come from, and how they are checked."""
