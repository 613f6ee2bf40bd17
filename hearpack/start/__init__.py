"""Getting started: a beginning for a custom net, what this machine can do, a demonstration."""
