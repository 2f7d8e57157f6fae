"""What each command of `cimm` does, one file per command."""
