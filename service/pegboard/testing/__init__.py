"""The kit for those who test a plugin: a running service, its clients, and the suite that knows the contract."""

from pegboard.testing.client import Client, Response
from pegboard.testing.conformance import Conformance
from pegboard.testing.promise import Undescribed
from pegboard.testing.service import Running

__all__ = ("Client", "Conformance", "Response", "Running", "Undescribed")
