"""What stands around the application: connections, limits, authentication."""
