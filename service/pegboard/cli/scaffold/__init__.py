"""Folders for new plugins, ready to be filled and published."""
