"""Core AI (.aimodel, iOS 27), experimental: executed on Linux by Apple's interpreter, which is no phone."""
