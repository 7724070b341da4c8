"""The API for plugin authors: resources, tables, content, operations and the request context."""
