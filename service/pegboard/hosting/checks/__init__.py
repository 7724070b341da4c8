"""What is held against the declaration of a plugin, at the start."""
