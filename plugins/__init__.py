"""The built-in tasks, one a file; each knows only the contract."""
