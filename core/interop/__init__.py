"""Adapters to and from PEFT, transformers and ONNX."""
