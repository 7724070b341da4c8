"""The kit for testing a plugin: a running service, its clients, and a suite that checks the contract of resources."""

from pegboard.testing.client import Client, Response
from pegboard.testing.conformance import Conformance
from pegboard.testing.openapi import Undescribed
from pegboard.testing.service import Loop, Running

__all__ = ("Client", "Conformance", "Loop", "Response", "Running", "Undescribed")
