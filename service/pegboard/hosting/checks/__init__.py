"""Checks of plugin declarations, at startup."""
