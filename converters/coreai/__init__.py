"""torch -> Core AI (.aimodel, iOS 27), experimental: made and executed on Linux."""
