"""The documentation that the service provides: the OpenAPI document, and the reference for people."""
