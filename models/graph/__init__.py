"""One graph of a user's net: torch.export at fixed shapes, in operations that both converters take."""
