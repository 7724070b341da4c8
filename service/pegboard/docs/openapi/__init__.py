"""The OpenAPI document of everything that is mounted."""
