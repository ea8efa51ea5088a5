"""LoRA as data: weights, the products that apply them, memory layout, and the bank of loaded adapters."""
