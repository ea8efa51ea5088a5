"""Pretrained encoders: their files, configuration, weights and tokenizer."""
