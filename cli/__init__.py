"""The command line `adapters`. Each command is a module, which is imported when the command is used."""
