"""The OpenAPI document of all that is mounted."""
