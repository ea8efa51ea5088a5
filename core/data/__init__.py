"""Data files of users: lines, records, examples and splits."""
