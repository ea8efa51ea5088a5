"""The HTTP layer of the service: routes, tokens, limits, problems, metrics and the log."""
