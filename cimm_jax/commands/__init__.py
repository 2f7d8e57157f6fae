"""What each command of `cimm` does, one verb a file; what can be asked stands in `settings`."""
