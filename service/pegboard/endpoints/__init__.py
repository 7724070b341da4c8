"""What the service serves: a table of endpoints, and the handlers of each."""
