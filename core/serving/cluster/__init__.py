"""The service on several machines: Ray Serve runs gateways, which accept requests, and replicas of the engine."""
