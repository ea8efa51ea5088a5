"""Training: settings, data, loop, evaluation, and what is stored at the end."""
