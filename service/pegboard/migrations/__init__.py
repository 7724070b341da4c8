"""How the tables that are there become those that are declared: drafts, SQL files, their history and their runner."""
