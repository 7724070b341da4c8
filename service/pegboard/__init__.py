"""Pegboard: an HTTP service whose REST resources are plugins.

This is the whole public interface for authors of plugins; everything else may change without notice.
"""

from marshmallow import ValidationError, validate, validates, validates_schema

from pegboard import errors
from pegboard.api.actions import Actions
from pegboard.api.changes import Change
from pegboard.api.content import Content, Stored, Upload
from pegboard.api.content_resource import ContentResource
from pegboard.api.context import Context
from pegboard.api.database import Database
from pegboard.api.operation import operation
from pegboard.api.page import Page
from pegboard.api.resource import Resource
from pegboard.api.serializer import Serializer
from pegboard.api.table import TableResource
from pegboard.auth.clients import Client, check_grant, check_username
from pegboard.errors import ApiError
from pegboard.http.conditions import Conditions, EntityTags
from pegboard.postgres.connections import Connections
from pegboard.query.existing import ExistingTable
from pegboard.query.query import Filter, Query, Sort
from pegboard.schema import fields
from pegboard.schema.ddl import Unique
from pegboard.schema.schema import Schema

__all__ = (
    "Actions",
    "ApiError",
    "Change",
    "Client",
    "Conditions",
    "Connections",
    "Content",
    "ContentResource",
    "Context",
    "Database",
    "EntityTags",
    "ExistingTable",
    "Filter",
    "Page",
    "Query",
    "Resource",
    "Schema",
    "Serializer",
    "Sort",
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
