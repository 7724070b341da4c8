"""Tables in PostgreSQL: what is declared of them, what is there, and how the one becomes the other."""
