"""What goes into and comes out of a custom net beside one waveform each."""
