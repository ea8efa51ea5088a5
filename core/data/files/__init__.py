"""Files as blocks of bytes, and their encodings."""
