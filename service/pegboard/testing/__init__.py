"""The kit for those who test a plugin: a running service, its clients, and the suite that knows the contract."""

from pegboard.testing.client import Answer, Client
from pegboard.testing.conformance import Conformance
from pegboard.testing.promise import Undescribed
from pegboard.testing.service import Running

__all__ = ("Answer", "Client", "Conformance", "Running", "Undescribed")
