"""The commands, one file a purpose; what a command needs is imported when it runs."""
