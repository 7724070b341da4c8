"""Plugins as the service sees them: how they are found, checked, set up, guarded and watched."""
