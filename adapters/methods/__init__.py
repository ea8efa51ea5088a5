"""How an adapter changes the products of the trunk: LoRA, its layouts, and the bank of loaded adapters."""
