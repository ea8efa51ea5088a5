"""Training of adapters: settings, encoded data, training loop, evaluation, storing."""
