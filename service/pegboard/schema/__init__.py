"""What comes in and what is stored: schemas, their fields, how bodies are loaded, and the table that is declared."""
