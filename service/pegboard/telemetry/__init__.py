"""The telemetry of the service: log, metrics and traces."""
