"""Services under load, from a second process: ours and its peers'."""
