"""Plugins from the service's point of view: discovery, validation, set-up, isolation and monitoring."""
