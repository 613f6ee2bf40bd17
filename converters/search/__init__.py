"""The search for the precision of each part of a net, within a budget of bytes and of what people notice."""
