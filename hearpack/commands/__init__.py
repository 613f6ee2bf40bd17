"""One file a command, each thin: parse, call the packages, show."""
