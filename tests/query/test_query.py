"""The query string of a collection: parsing of parameters, and errors."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.query.parsing import parse, parse_item
from pegboard.query.query import Query, Rules, Sort, cursor_to, requested_position
from pegboard.schema import fields
from pegboard.schema.column import Column


def column(name, field, type_of=None, nullable=False, **kwargs):
    type_of = type_of or str(fields.column_type(field))
    return Column(name, type_of, nullable, field=name, parse=fields.query_parser(field), **kwargs)


COLUMNS = (
    column("id", fields.UUID(), writable=False),
    column("name", fields.String(), nullable=True, max_length=200),
    column("name__ne", fields.String()),
    column("names__in", fields.String(), type_of="text[]"),
    column("names", fields.String()),
    column("age", fields.Integer(), nullable=True),
    column("score", fields.Float()),
    column("price", fields.Decimal(), nullable=True),
    column("active", fields.Boolean()),
    column("birthday", fields.Date(), nullable=True),
    column("opens", fields.Time(), nullable=True),
    column("created_at", fields.DateTime(), writable=False),
    column("tags", fields.String(), type_of="text[]"),
    column("marks", fields.Integer(), type_of="bigint[]", nullable=True),
    column("info", fields.Dict(), nullable=True),
    column("shape", fields.Dict()),
    column("address", fields.String(), type_of="macaddr", nullable=True),
    column("password", fields.String(), readable=False),
    column("größe", fields.Integer()),
)
RULES = Rules(COLUMNS, searchable=True, expandable=("company", "owner"))
BY_NAME = {column.name: column for column in COLUMNS}


def only_filter(raw: str):
    query = parse(raw, RULES)
    (filter_,) = query.filters
    return filter_.field, filter_.operator, filter_.value


def rejections(raw: str, rules: Rules = RULES, read=parse) -> list[tuple[str | None, int, str]]:
    with pytest.raises(ApiError) as caught:
        read(raw, rules)
    assert caught.value.status == 400
    assert caught.value.code == caught.value.details[0].code
    return [(error.parameter, error.code, error.message) for error in caught.value.details]


BAD, UNKNOWN, CURSOR = errors.InvalidParameter.code, errors.UnknownParameter.code, errors.InvalidCursor.code


def test_empty_query_strings_share_one_value() -> None:
    assert parse("", RULES) is parse_item("", RULES) is RULES.default_query
    assert RULES.default_query == Query(limit=50)


@pytest.mark.parametrize("raw", ["&", "&&&"])
def test_empty_parts_are_ignored(raw) -> None:
    assert parse(raw, RULES) == RULES.default_query


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("limit=1", {"limit": 1}),
        ("limit=500", {"limit": 500}),
        ("%6Cimit=%35", {"limit": 5}),
        ("count=exact", {"count": "exact"}),
        ("count=estimated", {"count": "estimated"}),
        ("q=ann+lee", {"q": "ann lee"}),
        ("q=%22ann%20lee%22+-bob", {"q": '"ann lee" -bob'}),
        ("fields=name,age", {"fields": frozenset({"id", "name", "age"})}),
        ("fields=id", {"fields": frozenset({"id"})}),
        ("fields=tags%2Cinfo", {"fields": frozenset({"id", "tags", "info"})}),
        ("expand=company", {"expand": ("company",)}),
        ("expand=owner,company,owner", {"expand": ("owner", "company")}),
        ("sort=name", {"sort": (Sort(BY_NAME["name"]),)}),
        ("sort=-created_at,name", {"sort": (Sort(BY_NAME["created_at"], True), Sort(BY_NAME["name"]))}),
        ("sort=-id", {"sort": (Sort(BY_NAME["id"], True),)}),
        ("sort=active", {"sort": (Sort(BY_NAME["active"]),)}),
        ("sort=gr%C3%B6%C3%9Fe", {"sort": (Sort(BY_NAME["größe"]),)}),
        ("after=abc_-9", {"after": "abc_-9"}),
        ("before=abc", {"before": "abc"}),
        ("limit=2&&sort=age&", {"limit": 2, "sort": (Sort(BY_NAME["age"]),)}),
    ],
)
def test_parameters_are_parsed(raw, expected) -> None:
    assert parse(raw, RULES) == Query(**{"limit": 50, **expected})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("name=Ann", ("name", "eq", "Ann")),
        ("name=", ("name", "eq", "")),
        ("name", ("name", "eq", "")),
        ("name=a=b", ("name", "eq", "a=b")),
        ("name=a%26b%3D%2B+c", ("name", "eq", "a&b=+ c")),
        ("name=%C3%89cole", ("name", "eq", "École")),
        ("name=École", ("name", "eq", "École")),
        ("name=%F0%9F%8E%89", ("name", "eq", "🎉")),
        ("name=" + b"\xc3\xa9".decode("ascii", "surrogateescape"), ("name", "eq", "é")),
        ("name=%EF%BF%BD", ("name", "eq", "\N{REPLACEMENT CHARACTER}")),
        ("name=%0A%01", ("name", "eq", "\n\x01")),
        # A field named like another one with an operator.
        ("name__ne=Ann", ("name__ne", "eq", "Ann")),
        ("name__ne__ne=Ann", ("name__ne", "ne", "Ann")),
        ("name__lt=Ann", ("name", "lt", "Ann")),
        ("names__in__has=x", ("names__in", "has", "x")),
        ("gr%C3%B6%C3%9Fe__gt=3", ("größe", "gt", 3)),
        ("age=-7", ("age", "eq", -7)),
        ("age__ne=7", ("age", "ne", 7)),
        ("age__lte=9223372036854775807", ("age", "lte", 2**63 - 1)),
        ("age__in=1,2,2", ("age", "in", [1, 2, 2])),
        ("age__isnull=true", ("age", "isnull", True)),
        ("age__isnull=false", ("age", "isnull", False)),
        ("score__gt=1.5e3", ("score", "gt", 1500.0)),
        ("price__gte=1.10", ("price", "gte", Decimal("1.10"))),
        ("active=true", ("active", "eq", True)),
        ("active__ne=false", ("active", "ne", False)),
        ("active__in=true,false", ("active", "in", [True, False])),
        ("birthday__lt=2015-02-15", ("birthday", "lt", date(2015, 2, 15))),
        ("created_at__gte=2015-02-15T05:21:07.9Z", ("created_at", "gte", datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC))),
        ("created_at=2015-02-15T05:21:07%2B02:00", ("created_at", "eq", datetime(2015, 2, 15, 3, 21, 7, tzinfo=UTC))),
        ("id=0190A4F2-0000-7000-8000-000000000001", ("id", "eq", UUID("0190a4f2-0000-7000-8000-000000000001"))),
        ("name__prefix=100%25_", ("name", "prefix", "100%_")),
        ("name__contains=", ("name", "contains", "")),
        ("name__in=a,b", ("name", "in", ["a", "b"])),
        ("name__in=", ("name", "in", [""])),
        ("name__in=,", ("name", "in", ["", ""])),
        ("name__in=a%5C,b,c", ("name", "in", ["a,b", "c"])),
        ("name__in=a%5C%5C,b", ("name", "in", ["a\\", "b"])),
        ("name__in=a%5C%5C%5C,b", ("name", "in", ["a\\,b"])),
        ("name__in=C:%5Ctemp,x%5C", ("name", "in", ["C:\\temp", "x\\"])),
        ("tags__has=a,b", ("tags", "has", "a,b")),
        ("marks__has=3", ("marks", "has", 3)),
        ("marks__isnull=true", ("marks", "isnull", True)),
        ("info__isnull=false", ("info", "isnull", False)),
        ("address__isnull=true", ("address", "isnull", True)),
    ],
)
def test_filters_are_parsed(raw, expected) -> None:
    assert only_filter(raw) == expected


def test_filters_are_combined() -> None:
    query = parse("age__gte=1&age__lt=5&name__contains=x&limit=3", RULES)
    assert [(f.field, f.operator) for f in query.filters] == [
        ("age", "gte"),
        ("age", "lt"),
        ("name", "contains"),
    ]


@pytest.mark.parametrize(
    ("raw", "parameter", "code"),
    [
        *((f"limit={text}", "limit", BAD) for text in (
            "", "0", "501", "-1", "%2B5", "+5", "5.0", "05", "5e1", "0x5", "1_0", "%D9%A5", "five", "5,6", "9" * 40, "5%20", "true",
        )),
        *((f"sort={text}", "sort", BAD) for text in (
            "", ",", "name,", ",name", "-", "--name", "+name", "name%20", "Name", "nam", "tags", "info", "shape", "address", "password",
            "name,name", "name,-name", "-id,id", "name__ne,name,name", "rank", "id,,name",
        )),
        ("sort=id,name,name__ne,names,age,score,price,active,birthday", "sort", BAD),
        *((f"fields={text}", "fields", BAD) for text in ("", ",", "name,", "nam", "password", "-name", "*", "name%00")),
        *((f"count={text}", "count", BAD) for text in ("", "true", "Exact", "exact,estimated")),
        *((f"q={text}", "q", BAD) for text in ("", "+", "%20%0A", "x" * 501, "a%00b")),
        *((f"expand={text}", "expand", BAD) for text in ("", "company,", "name", "Company")),
        *((f"after={text}", "after", CURSOR) for text in ("", "%20", "a.b", "a%2Bb", "a=", "%C3%A9")),
        ("before=", "before", CURSOR),
        ("after=x&before=y", "before", BAD),
        ("before=y&after=x", "before", BAD),
        ("limit=5&limit=5", "limit", BAD),
        ("limit=5&%6cimit=6", "limit", BAD),
        ("name=a&name=b", "name", BAD),
        ("name__in=a&age=1&name__in=a", "name__in", BAD),
        ("sort=name&sort=age", "sort", BAD),
        # Values of the wrong type.
        *((f"age={text}", "age", BAD) for text in ("", "1.0", "x", "9223372036854775808", "+1", "%2B1", "1e3", "true", "null")),
        *((f"age__in={text}", "age__in", BAD) for text in ("", "1,", "1,x", "1,2.5", "1%5C,2")),
        *((f"age__isnull={text}", "age__isnull", BAD) for text in ("", "1", "True", "null", "yes")),
        *((f"active={text}", "active", BAD) for text in ("", "1", "True", "yes", "null")),
        *((f"score={text}", "score", BAD) for text in ("nan", "inf", "1e999", "0x10", "", "1,5")),
        *((f"price={text}", "price", BAD) for text in ("NaN", "Infinity", "1e999999", "1.", "", "x" * 500)),
        *((f"birthday={text}", "birthday", BAD) for text in ("2015-02-30", "2015-2-5", "2015-02-15T00:00:00Z", "2015-W07-7", "")),
        *((f"created_at__gt={text}", "created_at__gt", BAD) for text in (
            "2015-02-15", "2015-02-15T05:21Z", "2015-02-15T05:21:07+02:00", "2015-02-15+05:21:07Z", "0001-01-01T00:00:00%2B14:00", "now",
        )),
        *((f"id={text}", "id", BAD) for text in ("x", "", "0190a4f2000070008000000000000001", "%7B0190a4f2-0000-7000-8000-000000000001%7D")),
        ("marks__has=x", "marks__has", BAD),
        ("name__in=" + ",".join("x" * 101), "name__in", BAD),
        # Unparsable values.
        *((f"name={text}", "name", BAD) for text in (
            "%", "%4", "%zz", "%u0041", "%ff", "%C3", "%C3%28", "%ED%A0%80", "%F5%80%80%80", "%00", "a%00b", "\ud800", "\udcff", "x\x00", "%+1",
        )),
        # Unknown names.
        *((f"{name}=1", name, UNKNOWN) for name in (
            "nme", "Name", "LIMIT", "offset", "page", "password", "password__ne", "name__eq", "name__like", "name__", "__name", "_", "age__has",
            "age__prefix", "age__contains", "active__lt", "active__prefix", "created_at__contains", "birthday__prefix", "id__contains",
            "created_at__isnull", "tags", "tags__in", "tags__ne", "tags__isnull", "info", "info__has", "info__ne", "shape", "shape__isnull",
            "address", "names__in", "name__ne__isnull", "sort__in", "limit__gt", "name__lt__lt",
        )),
        ("=5", "", UNKNOWN),
        ("name.first=x", "name.first", UNKNOWN),
        ("name%5B%5D=x", "name[]", UNKNOWN),
        (";limit=5", ";limit", UNKNOWN),
        ("%F0%9F%8E%89=1", "🎉", UNKNOWN),
        ("n%ff=1", "n%ff", BAD),
        ("n\udcff=1", "n?", BAD),
    ],
)  # fmt: skip
def test_invalid_parameters_are_rejected(raw, parameter, code) -> None:
    (error,) = rejections(raw)
    assert error[:2] == (parameter, code)


def test_all_invalid_parameters_are_reported_together() -> None:
    errors_found = rejections("limit=0&nme=x&age=old&sort=agee&fields=&limit=7&after=!&name=%ff&created_at__lt=now")
    assert [error[:2] for error in errors_found] == [
        ("limit", BAD), ("nme", UNKNOWN), ("age", BAD), ("sort", BAD), ("fields", BAD), ("limit", BAD), ("after", CURSOR), ("name", BAD),
        ("created_at__lt", BAD),
    ]  # fmt: skip


def test_a_repeated_parameter_is_reported_once() -> None:
    assert rejections("name=1&name=2&name=3") == [("name", BAD, "Sent more than once; send it once.")]


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("limt=5", "`limit`"), ("filds=name", "`fields`"), ("nam=x", "`name`"), ("agee__gt=3", "`age__gt`"), ("creatd_at__lt=x", "`created_at__lt`"),
        ("name__prefx=x", "`name__prefix`"), ("age__isnul=true", "`age__isnull`"), ("sort=-creatd_at", "`created_at`"), ("fields=nme", "`name`"),
        ("expand=compny", "`company`"),
    ],
)  # fmt: skip
def test_the_nearest_name_is_suggested(raw, meant) -> None:
    ((_, _, message),) = rejections(raw)
    assert f"Did you mean {meant}?" in message


@pytest.mark.parametrize("raw", ["zzzzz=5", "sort=zzzzz", "fields=zzzzz", "age__zzzzz=1", "shape=1"])
def test_no_distant_name_is_suggested(raw) -> None:
    assert "Did you mean" not in rejections(raw)[0][2]


@pytest.mark.parametrize("raw", ["pasword=x", "sort=password", "fields=password", "password=x", "sort=passwor"])
def test_a_write_only_field_is_never_suggested(raw) -> None:
    ((_, _, message),) = rejections(raw)
    assert "`password`" not in message.replace("`password` cannot be used here", "")


def test_messages_repeat_names_but_no_values() -> None:
    ((_, _, message),) = rejections("age=hunter2")
    assert "hunter2" not in message


def test_messages_can_be_serialized_as_json() -> None:
    for raw in ("\ud800=1", "n\udcff=1", "%ff=%ff", "x" * 5_000 + "=1", "sort=" + "y" * 5_000):
        for parameter, _, message in rejections(raw):
            assert f"{parameter}{message}".encode()
            assert len(f"{parameter}{message}") < 1_000


def test_queries_are_bounded() -> None:
    assert rejections("&".join(f"x{n}=1" for n in range(101)))[0][1] == BAD
    wide = Rules(tuple(column(f"f{n}", fields.Integer()) for n in range(40)))
    assert len(parse("&".join(f"f{n}=1" for n in range(32)), wide).filters) == 32
    assert rejections("&".join(f"f{n}=1" for n in range(33)), wide) == [("f32", BAD, "Send at most 32 filters.")]
    assert len(only_filter("name__in=" + ",".join("x" * 100))[2]) == 100
    assert len(rejections("&".join(f"x{n}=1" for n in range(100)))) == 100


def test_parameters_not_supported_by_a_resource_are_unknown() -> None:
    plain = Rules(COLUMNS, filterable=("age",), sortable=("age", "name"), default_limit=3, max_limit=7)
    assert parse("age__gt=1&sort=-age,name&limit=7", plain).limit == 7
    assert parse("age=1", plain).limit == plain.default_query.limit == 3
    for raw in ("q=x", "expand=company", "name=x", "age__has=1", "id=x"):
        assert [error[1] for error in rejections(raw, plain)] == [UNKNOWN]
    for raw in ("limit=8", "sort=score", "sort=id"):
        assert [error[1] for error in rejections(raw, plain)] == [BAD]


def test_items_accept_only_fields_and_expand() -> None:
    query = parse_item("fields=name&expand=owner", RULES)
    assert (query.fields, query.expand) == (frozenset({"id", "name", "owner"}), ("owner",))
    for name in ("limit", "sort", "count", "q", "after", "before", "name", "age__gt", "nonsense"):
        ((parameter, code, _),) = rejections(f"{name}=1", read=parse_item)
        assert (parameter, code) == (name, UNKNOWN)
    assert [error[0] for error in rejections("after=x&before=y", read=parse_item)] == ["after", "before"]
    assert [error[0] for error in rejections("fields=nme&fields=name", read=parse_item)] == ["fields", "fields"]
    assert "A single item" in rejections("limit=5", read=parse_item)[0][2]
    assert "`fields`" in rejections("filds=5", read=parse_item)[0][2]


@pytest.mark.parametrize(
    "name", ["limit", "after", "before", "sort", "fields", "count", "q", "expand", "", "a,b", "-a"]
)
def test_a_field_with_a_reserved_name_is_rejected_at_startup(name) -> None:
    with pytest.raises(ValueError, match=f"'{name}'"):
        Rules((column(name, fields.String()),))


@pytest.mark.parametrize(("default", "most"), [(0, 5), (6, 5), (-1, 5)])
def test_contradictory_limits_are_rejected_at_startup(default, most) -> None:
    with pytest.raises(ValueError, match="limit"):
        Rules(COLUMNS, default_limit=default, max_limit=most)


POSITION = ("Ann", None, 7)


def test_a_cursor_encodes_its_position() -> None:
    for raw in ("", "sort=-name,age&name__contains=x&q=y"):
        query = parse(raw, RULES)
        text = cursor_to(query, b"secret", "contacts", POSITION)
        assert requested_position(query, b"secret", "contacts") is None
        assert (
            requested_position(
                parse(f"{raw}&after={text}&limit=3&fields=name&count=exact", RULES), b"secret", "contacts"
            )
            == POSITION
        )
        assert requested_position(parse(f"{raw}&before={text}", RULES), b"secret", "contacts") == POSITION


def test_cursors_are_independent_of_the_order_of_filters() -> None:
    text = cursor_to(parse("age=1&name=x&sort=age", RULES), b"secret", "contacts", POSITION)
    assert requested_position(parse(f"sort=age&name=x&after={text}&age=1", RULES), b"secret", "contacts") == POSITION


@pytest.mark.parametrize(
    "other",
    ["", "sort=age", "sort=-name", "sort=name,age", "sort=name&age=1", "sort=name&age__ne=1", "sort=name&q=x", "sort=name&age=2",
     "sort=name&age__in=1", "sort=name&name=1"],
)  # fmt: skip
def test_a_cursor_is_rejected_with_another_sort_filter_or_search(other) -> None:
    text = cursor_to(parse("sort=name&age=1&q=y", RULES), b"secret", "contacts", POSITION)
    for parameter in ("after", "before"):
        query = parse(f"{other}&{parameter}={text}", RULES)
        with pytest.raises(ApiError) as caught:
            requested_position(query, b"secret", "contacts")
        assert (caught.value.status, caught.value.details[0].parameter) == (400, parameter)
        assert type(caught.value) is errors.InvalidCursor


@pytest.mark.parametrize(("secret", "resource"), [(b"another", "contacts"), (b"secret", "contact")])
def test_a_cursor_is_rejected_by_another_resource(secret, resource) -> None:
    text = cursor_to(RULES.default_query, b"secret", "contacts", POSITION)
    query = parse(f"after={text}", RULES)
    with pytest.raises(ApiError):
        requested_position(query, secret, resource)


def test_a_cursor_is_rejected_if_its_field_has_another_type() -> None:
    before = Rules((column("n", fields.String()),))
    after = Rules((column("n", fields.Integer()),))
    text = cursor_to(parse("sort=n", before), b"secret", "things", ("1",))
    with pytest.raises(ApiError):
        requested_position(parse(f"sort=n&after={text}", after), b"secret", "things")


PAGED = "sort=-name&age__in=1,2&q=x&limit=7"
CURSOR_TEXT = "AAAA"


@pytest.mark.parametrize(
    "raw",
    [f"{PAGED}&after={CURSOR_TEXT}", f"{PAGED}&before={CURSOR_TEXT}", f"after={CURSOR_TEXT}", f"&after={CURSOR_TEXT}",
     f"after={CURSOR_TEXT}&{PAGED}", f"{PAGED}&%61fter={CURSOR_TEXT}", PAGED, f"{PAGED}&", ""],
)  # fmt: skip
def test_a_cached_query_is_parsed_equally(raw) -> None:
    fresh = parse(raw, replace(RULES))
    rules = replace(RULES)
    for earlier in ("", PAGED, f"{PAGED}&after=BBBB", f"after=BBBB&{PAGED}", f"{PAGED}&before=BBBB", "after=BBBB"):
        parse(earlier, rules)
    assert parse(raw, rules) == parse(raw, rules) == fresh
    assert cursor_to(fresh, b"secret", "contacts", POSITION) == cursor_to(
        parse(raw, rules), b"secret", "contacts", POSITION
    )


@pytest.mark.parametrize(
    "raw",
    [f"{PAGED}&after=%", f"{PAGED}&after=", f"{PAGED}&after", f"{PAGED}&after={CURSOR_TEXT}&after={CURSOR_TEXT}",
     f"{PAGED}&before={CURSOR_TEXT}&after={CURSOR_TEXT}", f"after={CURSOR_TEXT}&{PAGED}&before={CURSOR_TEXT}",
     f"after={CURSOR_TEXT}&{PAGED}&after={CURSOR_TEXT}", f"{PAGED}&x=1&after={CURSOR_TEXT}", f"{PAGED}&after={CURSOR_TEXT}&x=1",
     f"after={CURSOR_TEXT}&after={CURSOR_TEXT}"],
)  # fmt: skip
def test_a_cached_query_does_not_hide_errors(raw) -> None:
    fresh = rejections(raw, replace(RULES))
    rules = replace(RULES)
    for earlier in ("", PAGED, f"{PAGED}&after={CURSOR_TEXT}", f"after={CURSOR_TEXT}&{PAGED}"):
        parse(earlier, rules)
    assert rejections(raw, rules) == rejections(raw, rules) == fresh


def test_a_stream_rejects_cursors_even_if_the_query_is_cached() -> None:
    rules = replace(RULES).streaming()
    parse(PAGED, rules)
    assert [error[:2] for error in rejections(f"{PAGED}&after={CURSOR_TEXT}", rules)] == [
        ("after", errors.InvalidParameter.code)
    ]


def test_the_query_cache_is_bounded() -> None:
    rules = replace(RULES)
    for number in range(1200):
        parse(f"age={number}&after={CURSOR_TEXT}", rules)
    parse(f"name={'x' * 2000}", rules)
    assert 0 < len(rules.cache) <= 500
    assert max(map(len, rules.cache)) < 1000


raw_text = st.text(st.sampled_from("%&=+,\\-_ .0123456789abcdefnamelimitsort\x00éß\ud800\udcff🎉"), max_size=60)


@settings(deadline=None, max_examples=400)
@given(st.one_of(raw_text, st.lists(st.tuples(st.sampled_from(["limit", "sort", "name", "age__in", "q", "after"]), raw_text)).map(
    lambda pairs: "&".join("=".join(pair) for pair in pairs)
)))  # fmt: skip
def test_any_query_is_parsed_or_rejected_with_400(raw) -> None:
    details: tuple[ErrorDetail, ...] = ()
    try:
        parse(raw, RULES)
    except ApiError as error:
        details = error.details
    for detail in details:
        assert detail.code in (BAD, UNKNOWN, CURSOR)
        assert f"{detail.parameter}{detail.message}".encode()
