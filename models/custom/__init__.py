"""A user's own net: what it declares, how it is loaded, which graph is exported."""
