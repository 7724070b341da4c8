"""The suite of the kit, over the resources that come with the service."""

from __future__ import annotations

from pegboard.testing import Conformance


class TestContacts(Conformance):
    resource = "contacts"


class TestClients(Conformance):
    resource = "clients"
    changed = ("grants",)
