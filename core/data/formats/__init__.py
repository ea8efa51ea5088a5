"""One module per file format: each has a `Reader`. A format is added by a module here and a line in `readers`."""
