"""Companies: the firms you do business with, as a resource of Pegboard."""

from pegboard import Schema, TableResource, Unique, fields, validate


class Company(Schema):
    """One company."""

    name = fields.String(required=True, validate=validate.Length(1, 200))
    website = fields.Url(allow_none=True, schemes={"http", "https"}, validate=validate.Length(max=2_000))
    industry = fields.String(allow_none=True, validate=validate.Length(max=100))
    vat_number = fields.String(
        allow_none=True,
        validate=[validate.Length(4, 20), validate.Regexp(r"\A[A-Za-z]{2}[0-9A-Za-z]+\Z")],
        metadata={"example": "IE6388047V"},
    )
    address = fields.String(allow_none=True, validate=validate.Length(max=500))
    city = fields.String(allow_none=True, validate=validate.Length(max=100))
    country = fields.String(
        allow_none=True,
        validate=[
            validate.Length(equal=2),
            validate.Regexp(r"\A[A-Z]{2}\Z", error="Not an ISO 3166-1 code, such as IE."),
        ],
        metadata={"example": "IE"},
    )
    employees = fields.Integer(allow_none=True, validate=validate.Range(min=0))
    tags = fields.List(
        fields.String(validate=validate.Length(max=50)), load_default=list, validate=validate.Length(max=20)
    )
    notes = fields.String(allow_none=True, validate=validate.Length(max=10_000))


class Companies(TableResource):
    """The companies you do business with."""

    schema = Company
    unique = (Unique("vat_number", ignore_case=True),)
    indexes = ("name", "country,name", "created_at", "tags")
    search_fields = ("name", "industry", "city", "notes")
