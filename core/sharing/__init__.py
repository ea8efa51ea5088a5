"""Publishing adapters to the Hub or a shared folder, pulling them, and looking for newer commits."""
