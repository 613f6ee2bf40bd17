"""From a net to a bundle that was executed and verified."""
