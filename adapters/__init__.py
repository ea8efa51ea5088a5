"""LoRA adapters as data: weights, files on disk, the local store, remotes and model cards. Independent of tasks."""
