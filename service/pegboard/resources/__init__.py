"""What a plugin declares and does, and its resource over HTTP."""
