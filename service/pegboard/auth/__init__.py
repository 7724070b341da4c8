"""Who may use the service: clients, their credentials and their grants."""
