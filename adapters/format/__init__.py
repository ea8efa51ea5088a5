"""An adapter on disk: the artifact's files, its manifest, and PEFT's format."""
