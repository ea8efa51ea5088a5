"""The command line `adapters`: one thin module a command, imported when it is used."""
