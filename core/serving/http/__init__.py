"""The HTTP side of the service: what comes in, who may, and what goes out."""
