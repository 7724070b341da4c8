"""Authentication and authorization: clients, their credentials and their grants."""
