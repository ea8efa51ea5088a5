"""Users' files: lines, records, examples, splits."""
