"""External state for an offline causal net: walk its graph, rewrite it for one hop, prove it."""
