"""One HTML page from runs, cold starts and advice."""
