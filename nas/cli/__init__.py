"""The `nas` command. One file per family of commands; what is heavy is imported inside the command that needs it."""
