"""To Core ML (.mlpackage)."""
