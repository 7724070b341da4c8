"""What the service serves: a table of endpoints, from which all else that knows a path is made."""
