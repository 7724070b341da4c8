"""Access to PostgreSQL: connections, pools, and the embedded server."""
