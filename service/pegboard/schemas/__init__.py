"""What comes in and what goes out: schemas, their fields, and how bodies are loaded by them."""
