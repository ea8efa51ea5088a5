"""The built-in tasks, one per module. They import only `onetrunk.core.tasks`."""
