"""Run what was shipped: bundles, and one protocol over torch, LiteRT, Core ML and the evaluator."""
