"""The ground floor: LoRA as data, artifacts, the store, cards. Tensors and files, no task meaning."""
