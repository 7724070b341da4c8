"""One field of a schema as JSON Schema: apispec's account of it, mended where it is wrong or knows too little."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import marshmallow.fields
import orjson
from marshmallow import validate

from pegboard import rendering
from pegboard.schema import fields

JsonSchema = dict[str, Any]

_BIGINT = {"minimum": -(2**63), "maximum": 2**63 - 1}
CLOCK = r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?$"
_PRINTED = r"^[^\u0000-\u001f\u007f-\u009f]*$"
NUMBER = r"^-?\d{1,100}(\.\d+)?$"

KINDS: tuple[tuple[type[marshmallow.fields.Field[Any]], JsonSchema], ...] = (
    (fields.Email, {"type": "string", "format": "email"}),
    (fields.Url, {"type": "string", "format": "uri"}),
    (fields.Password, {"type": "string", "format": "password", "minLength": 8, "maxLength": 1024, "pattern": _PRINTED}),
    (fields.String, {"type": "string"}),
    (fields.UUID, {"type": "string", "format": "uuid"}),
    (fields.Integer, {"type": "integer", "format": "int64", **_BIGINT}),
    (fields.Float, {"type": "number", "format": "double"}),
    (fields.Decimal, {"type": ["string", "number"], "pattern": NUMBER}),
    (fields.Boolean, {"type": "boolean"}),
    (fields.Date, {"type": "string", "format": "date"}),
    (fields.Time, {"type": "string", "pattern": CLOCK}),
    (fields.DateTime, {"type": "string", "format": "date-time"}),
    (fields.Dict, {"type": "object"}),
    # Those of marshmallow itself that apispec tells wrongly.
    (marshmallow.fields.Url, {"type": "string", "format": "uri"}),
    (marshmallow.fields.Time, {"type": "string", "pattern": CLOCK}),
    (marshmallow.fields.IPv4, {"type": "string", "format": "ipv4"}),
    (marshmallow.fields.IPv6, {"type": "string", "format": "ipv6"}),
    (marshmallow.fields.IP, {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
)
"""What is the same for every field of a kind; the first kind that fits counts."""

_OF_VALIDATORS = ("enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")
_OF_APISPEC = ("x-minimum", "x-maximum", "example", "default", "min")


def ref(name: str, kind: str = "schemas") -> JsonSchema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def mend(converter: Any, field: Any, ret: JsonSchema) -> JsonSchema:
    """Put right what apispec says of `field` in `ret`; one of its attribute functions, run after all others."""
    for wrong in (*_OF_VALIDATORS, *_OF_APISPEC):
        if wrong not in field.metadata or wrong == "example":
            ret.pop(wrong, None)
    if ret.get("format", "") is None:
        del ret["format"]
    found: JsonSchema = {}
    for kind, shape in KINDS:
        if isinstance(field, kind):
            found |= shape
            break
    for kind, describe in _SPECIAL:
        if isinstance(field, kind):
            found |= describe(converter, field)
    for check in _flat(field.validators):
        for kind_of, constrain in _CHECKS:
            if isinstance(check, kind_of):
                constrain(check, field, found)
                break
    found |= {name: plain(value) for name, value in ret.items() if name in field.metadata}
    if "example" in field.metadata:
        found["examples"] = [plain(field.metadata["example"])]
    default = _default(field)
    if default:
        found["default"] = default[0]
    ret.update(found)
    return with_null(ret) if field.allow_none else {}


def with_null(shape: JsonSchema) -> JsonSchema:
    """Return what makes `shape` take null as well, to be put over it."""
    if "$ref" in shape:
        return {"anyOf": [{"$ref": shape.pop("$ref")}, {"type": "null"}]}
    if "anyOf" in shape and "type" not in shape:
        return {"anyOf": [*(part for part in shape["anyOf"] if part != {"type": "null"}), {"type": "null"}]}
    known = shape.get("type")
    changed: JsonSchema = {}
    if known is not None:
        kinds = [known] if isinstance(known, str) else known
        changed["type"] = [*(kind for kind in kinds if kind != "null"), "null"]
    if "enum" in shape and None not in shape["enum"]:
        changed["enum"] = [*shape["enum"], None]
    return changed


def plain(value: Any) -> Any:
    """Return a value as JSON would have it."""
    return orjson.loads(rendering.dumps(value))


def _flat(validators: Any) -> Iterator[Any]:
    """Yield marshmallow's validators out of ours and out of each other."""
    for validator in validators:
        check = getattr(validator, "check", validator)
        if isinstance(check, validate.And):
            yield from _flat(check.validators)
        else:
            yield check


def _default(field: Any) -> tuple[Any, ...]:
    """Return the default of a field where it is the same each time, as a tuple of one; else an empty tuple."""
    default = field.load_default
    if default in (list, dict):
        return (default(),)
    if default is marshmallow.missing or default is None or callable(default):
        return ()
    return (plain(default),)


def _constant(_: Any, field: Any) -> JsonSchema:
    return {"const": plain(field.constant)}


def _choices(_: Any, field: Any) -> JsonSchema:
    names = [field.field._serialize(one.value, None, None) if field.by_value else one.name for one in field.enum]
    choices = [plain(name) for name in names]
    return {"type": "string", "enum": choices} if all(isinstance(one, str) for one in choices) else {"enum": choices}


def _tuple(converter: Any, field: Any) -> JsonSchema:
    parts = [converter.field2property(part) for part in field.tuple_fields]
    return {"type": "array", "prefixItems": parts, "items": {}, "minItems": len(parts), "maxItems": len(parts)}


def _list(converter: Any, field: Any) -> JsonSchema:
    return {"type": "array", "items": converter.field2property(field.inner)}


def _decimal(_: Any, field: Any) -> JsonSchema:
    fraction = rf"(\.\d{{1,{field.places}}})?" if field.places else ""
    return {"pattern": rf"^-?\d{{1,100}}{fraction}$"}


def _reference(_: Any, field: Any) -> JsonSchema:
    about = {"description": field.metadata.get("description", f"The id of an item of `/{field.resource}`.")}
    # An id that is made up leads nowhere.
    return about | ({"examples": [None]} if field.allow_none and "example" not in field.metadata else {})


_SPECIAL: tuple[tuple[Any, Callable[[Any, Any], JsonSchema]], ...] = (
    (marshmallow.fields.Constant, _constant),
    (marshmallow.fields.Enum, _choices),
    (marshmallow.fields.Tuple, _tuple),
    (marshmallow.fields.List, _list),
    (fields.Decimal, _decimal),
    (fields.Reference, _reference),
)
"""What a field of a kind adds by its own arguments."""


def _length(check: validate.Length, field: Any, shape: JsonSchema) -> None:
    many = getattr(field, "many", False) or shape.get("type") == "array"
    what = "Items" if many else "Properties" if shape.get("type") == "object" else "Length"
    least, most = (check.min, check.max) if check.equal is None else (check.equal, check.equal)
    _narrow(shape, {f"min{what}": least, f"max{what}": most})


def _range(check: validate.Range, field: Any, shape: JsonSchema) -> None:
    kinds = shape.get("type", ())
    if not {"integer", "number"}.intersection([kinds] if isinstance(kinds, str) else kinds):
        bounds = [("from", check.min), ("to", check.max)]
        text = " ".join(f"{word} {plain(bound)}" for word, bound in bounds if bound is not None)
        shape["description"] = f"{field.metadata.get('description', '')} In the range {text}.".strip()
        return
    lower = "minimum" if check.min_inclusive else "exclusiveMinimum"
    upper = "maximum" if check.max_inclusive else "exclusiveMaximum"
    _narrow(shape, {lower: _number(check.min), upper: _number(check.max)})


def _number(bound: Any) -> Any:
    return bound if bound is None or isinstance(bound, int) else float(bound)


def _narrow(shape: JsonSchema, bounds: Mapping[str, Any]) -> None:
    for name, bound in bounds.items():
        if bound is not None:
            choose = max if name.startswith(("min", "exclusiveMin")) else min
            shape[name] = choose(shape.get(name, bound), bound)


def _one_of(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["enum"] = plain(list(check.choices))


def _only(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["items"] = shape.get("items", {}) | {"enum": plain(list(check.choices))}


def _none_within(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["items"] = shape.get("items", {}) | {"not": {"enum": plain(list(check.iterable))}}


def _none_of(check: Any, field: Any, shape: JsonSchema) -> None:
    shape["not"] = {"enum": plain(list(check.iterable))}


def _equal(check: Any, field: Any, shape: JsonSchema) -> None:
    # Not `const`, which could not be widened for a field that may be null.
    shape["enum"] = [plain(check.comparable)]


def _regexp(check: validate.Regexp, field: Any, shape: JsonSchema) -> None:
    pattern = ecma(check.regex)
    if pattern is not None:
        shape["pattern"] = pattern


_CHECKS: tuple[tuple[type, Callable[[Any, Any, JsonSchema], None]], ...] = (
    (validate.Length, _length),
    (validate.Range, _range),
    (validate.ContainsOnly, _only),
    (validate.OneOf, _one_of),
    (validate.ContainsNoneOf, _none_within),
    (validate.NoneOf, _none_of),
    (validate.Equal, _equal),
    # Email and URL are such, too: their formats say more than their patterns.
    (validate.Email, lambda check, field, shape: None),
    (validate.URL, lambda check, field, shape: None),
    (validate.Regexp, _regexp),
)
"""What each of marshmallow's validators adds; what others demand only their author can tell, in the metadata."""

_SPELT = ((r"\A", "^"), (r"\Z", "$"), ("(?P<", "(?<"))
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})")
_FOREIGN = re.compile(r"\(\?[#aiLmsuxP(>-]|[+*?}]\+|\\[0-9UN]")


def ecma(regex: re.Pattern[Any]) -> str | None:
    """Return a pattern as ECMA-262 writes it, which JSON Schema demands; None where it cannot."""
    pattern = regex.pattern
    if regex.flags & ~(re.UNICODE | re.ASCII):
        return None
    for ours, theirs in _SPELT:
        pattern = pattern.replace(ours, theirs)
    pattern = _ESCAPE.sub(r"\\u00\1", pattern)
    if _FOREIGN.search(pattern):
        return None
    # Python matches from the beginning on, ECMA-262 anywhere.
    return pattern if pattern.startswith("^") and "|" not in pattern else f"^(?:{pattern})"
