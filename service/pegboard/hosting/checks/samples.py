"""Valid values for each type of field, to call an author's code with."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any

from marshmallow import missing
from marshmallow.fields import Field

from pegboard.schema import fields

_SAMPLES: Mapping[type[Field[Any]], Any] = {
    fields.String: "a",
    fields.Integer: 1,
    fields.Float: 1.0,
    fields.Decimal: Decimal(1),
    fields.Boolean: True,
    fields.Date: date(2015, 2, 15),
    fields.DateTime: datetime(2015, 2, 15, tzinfo=UTC),
    fields.Time: time(5),
    fields.UUID: uuid.UUID(int=0),
    fields.IP: IPv4Address(0),
    fields.List: [],
    fields.Dict: {},
}


def sample(field: Field[Any]) -> Any:
    """Return a valid loaded value for the type of a field; `missing` if the type is unknown."""
    return next((value for kind, value in _SAMPLES.items() if isinstance(field, kind)), missing)
