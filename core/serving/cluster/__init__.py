"""The service over several machines: Ray Serve runs gateways, which take requests, and replicas of the engine."""
