"""What the service does under load and fault; see `__main__.py` for the commands."""
