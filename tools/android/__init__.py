"""What compiles and tests the Android sample on Debian."""
