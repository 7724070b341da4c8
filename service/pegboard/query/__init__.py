"""Queries of collections, from URL parameters to SQL statements."""
