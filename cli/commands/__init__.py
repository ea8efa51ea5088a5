"""The built-in commands. Each module holds one click command under the name `command`."""
