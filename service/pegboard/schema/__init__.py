"""Schemas and their fields, the loading of request bodies, and the declaration of tables."""
