"""Migrations: from existing tables to the declared ones, by drafts, SQL files, their history and their runner."""
