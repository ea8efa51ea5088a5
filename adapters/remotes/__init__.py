"""Where adapters are published to and pulled from: the Hub and shared folders."""
