"""The service without HTTP: admission, batches, execution, loading."""
