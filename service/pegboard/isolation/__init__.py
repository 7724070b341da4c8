"""What keeps one plugin's faults from the others: how it is loaded, what it may take of the service, who blocks it."""
