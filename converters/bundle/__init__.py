"""What a bundle holds beside the converted files, and its golden vectors."""
