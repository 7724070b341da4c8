"""The descriptions of endpoints, made once at the start from what the plugins declare."""
