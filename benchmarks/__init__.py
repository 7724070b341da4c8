"""The service beside its yardstick: what is measured, how, and what a run prints is in README.md."""
