"""Schemas of plugins as JSON Schema, and examples of what they describe."""
