"""Export of adapters to PEFT, transformers and ONNX, and import from PEFT."""
