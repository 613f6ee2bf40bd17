"""What runs on the simulated device: input, calls, output, and the ledger that accounts for them."""
