"""Benchmarks of the service against a baseline; README.md describes what they measure, how, and their output."""
