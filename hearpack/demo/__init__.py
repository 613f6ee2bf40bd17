"""What `make demo` does, and its report."""
