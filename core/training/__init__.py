"""Training of adapters: settings, encoded data, loop, evaluation, storing."""
