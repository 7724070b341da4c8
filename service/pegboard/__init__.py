"""Pegboard: an HTTP service whose REST resources are plugins.

This is the whole public interface for authors of plugins; everything else may change without notice.
"""

from marshmallow import ValidationError, validate, validates, validates_schema

from pegboard import errors
from pegboard.access.clients import Client, check_grant, check_username
from pegboard.errors import ApiError, ErrorCode
from pegboard.queries.existing import Existing
from pegboard.resources.aftermath import Change
from pegboard.resources.content import Content, Stored, Upload
from pegboard.resources.context import Context
from pegboard.resources.operation import operation
from pegboard.resources.resource import Page, Resource
from pegboard.resources.storage import ContentResource
from pegboard.resources.table import TableResource
from pegboard.schemas import fields
from pegboard.schemas.schema import Schema
from pegboard.tables.ddl import Unique

__all__ = (
    "ApiError",
    "Change",
    "Client",
    "Content",
    "ContentResource",
    "Context",
    "ErrorCode",
    "Existing",
    "Page",
    "Resource",
    "Schema",
    "Stored",
    "TableResource",
    "Unique",
    "Upload",
    "ValidationError",
    "check_grant",
    "check_username",
    "errors",
    "fields",
    "operation",
    "validate",
    "validates",
    "validates_schema",
)
