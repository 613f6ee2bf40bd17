"""What stands in a bundle beside the converted files, and its golden vectors."""
