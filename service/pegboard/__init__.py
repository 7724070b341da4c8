"""Pegboard: an HTTP service whose REST resources are plugins.

This is the whole public interface for authors of plugins; everything else may change without notice.
"""

from marshmallow import ValidationError, validate, validates, validates_schema

from pegboard import errors, fields
from pegboard.clients import Client, check_grant, check_username
from pegboard.ddl import Unique
from pegboard.errors import ApiError, ErrorCode
from pegboard.resource import Context, Page, Resource
from pegboard.schema import Schema
from pegboard.table import TableResource

__all__ = (
    "ApiError",
    "Client",
    "Context",
    "ErrorCode",
    "Page",
    "Resource",
    "Schema",
    "TableResource",
    "Unique",
    "ValidationError",
    "check_grant",
    "check_username",
    "errors",
    "fields",
    "validate",
    "validates",
    "validates_schema",
)
