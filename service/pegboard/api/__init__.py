"""What authors of plugins write against: resources, tables, content, operations and their context."""
