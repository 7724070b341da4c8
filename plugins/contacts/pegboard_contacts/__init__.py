"""Contacts: people you keep in touch with, as a resource of Pegboard."""

from pegboard import Schema, TableResource, Unique, fields, validate


class Contact(Schema):
    """One person."""

    name = fields.String(required=True, validate=validate.Length(1, 200))
    email = fields.Email(required=True, validate=validate.Length(max=254))
    phone = fields.String(allow_none=True, validate=validate.Length(max=40))
    company = fields.Reference("companies", allow_none=True)
    notes = fields.String(allow_none=True, validate=validate.Length(max=10_000))
    birthday = fields.Date(allow_none=True)
    tags = fields.List(
        fields.String(validate=validate.Length(max=50)), load_default=list, validate=validate.Length(max=20)
    )
    last_contacted_at = fields.DateTime(allow_none=True)


class Contacts(TableResource):
    """People you keep in touch with."""

    schema = Contact
    unique = (Unique("email", ignore_case=True),)
    indexes = ("name", "created_at", "tags")
    search_fields = ("name", "email", "notes")
