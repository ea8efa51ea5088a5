"""The service: every task from one trunk, over HTTP."""
