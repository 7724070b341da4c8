"""What is asked of a collection, from the parameters of a URL to the statements of one table."""
