"""What is told of the service while it runs: its log, its metrics, its traces."""
