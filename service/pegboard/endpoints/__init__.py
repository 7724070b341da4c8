"""The endpoints: their table, and their handlers."""
