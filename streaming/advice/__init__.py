"""Which buffer on which device, and whether a budget is kept."""
