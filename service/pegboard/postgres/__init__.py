"""The way to PostgreSQL: connections, pools, and the server that comes with the service."""
