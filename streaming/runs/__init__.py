"""NAME.run on disk: the record, its files, comparisons."""
