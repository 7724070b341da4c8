"""JSON Merge Patch by the table of RFC 7396, JSON Patch by the examples of RFC 6902."""

from typing import Any

import pytest

from pegboard.errors import ApiError
from pegboard.schema import patching


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}), ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}), ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}), ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]), ({"a": "b"}, ["c"], ["c"]), ({"a": "foo"}, None, None), ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}), ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)  # fmt: skip
def test_merge_patch_follows_the_table_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert patching.merge(target, patch) == result


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        ({"foo": {"bar": 1}, "qux": {}}, [{"op": "move", "from": "/foo/bar", "path": "/qux/thud"}], {"foo": {}, "qux": {"thud": 1}}),
        ({"foo": [1, 2, 3]}, [{"op": "move", "from": "/foo/0", "path": "/foo/2"}], {"foo": [2, 3, 1]}),
        ({"foo": [1]}, [{"op": "add", "path": "/foo/-", "value": [2]}], {"foo": [1, [2]]}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}, {"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": None}, [{"op": "replace", "path": "/a", "value": None, "ignored": True}], {"a": None}),
        ({"a": 1}, [], {"a": 1}),
    ],
)  # fmt: skip
def test_json_patch_applies_operations_in_order(document: Any, patch: Any, result: Any) -> None:
    before = repr(document)
    assert patching.apply(document, patching.operations(patch)) == result
    assert repr(document) == before


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({}, ""), ([1], "/0"), ([{"path": "/a"}], "/0/op"), ([{"op": "spin", "path": "/a"}], "/0/op"), ([{"op": ["add"], "path": ""}], "/0/op"),
        ([{"op": "add", "path": "/a"}], "/0/value"), ([{"op": "remove"}], "/0/path"), ([{"op": "remove", "path": "a"}], "/0/path"),
        ([{"op": "remove", "path": "/~2"}], "/0/path"), ([{"op": "move", "path": "/a"}], "/0/from"),
        ([{"op": "move", "from": "/a", "path": "/a/b"}], "/0/path"), ([{"op": "remove", "path": 5}], "/0/path"),
    ],
)  # fmt: skip
def test_a_malformed_patch_is_400_with_a_pointer(patch: Any, pointer: str) -> None:
    with pytest.raises(ApiError) as caught:
        patching.operations(patch)
    assert (caught.value.status, caught.value.details[0].pointer) == (400, pointer)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nothing"}, {"op": "replace", "path": "/nothing", "value": 1}, {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/t", "value": 1}, {"op": "add", "path": "/l/5", "value": 1}, {"op": "add", "path": "/l/01", "value": 1},
        {"op": "remove", "path": "/l/-"}, {"op": "add", "path": "/a/b", "value": 1}, {"op": "copy", "from": "/x", "path": "/y"},
        {"op": "test", "path": "/l", "value": [1]}, {"op": "test", "path": "/o", "value": {"a": 2}}, {"op": "remove", "path": "/l/999999999999"},
    ],
)  # fmt: skip
def test_an_inapplicable_patch_is_409_and_changes_nothing(operation: Any) -> None:
    document = {"a": 1, "t": True, "l": [1, 2], "o": {"a": 1}}
    patch = patching.operations([{"op": "add", "path": "/new", "value": 1}, operation])
    with pytest.raises(ApiError) as caught:
        patching.apply(document, patch)
    assert (caught.value.status, caught.value.details[0].pointer) == (409, "/1")
    assert "new" not in document


def test_repeated_copies_are_bounded() -> None:
    patch = patching.operations([{"op": "copy", "from": "/a", "path": "/a/-"}] * 100)
    with pytest.raises(ApiError) as caught:
        patching.apply({"a": [1]}, patch)
    assert caught.value.status == 413


def test_a_patch_with_too_many_operations_is_413() -> None:
    with pytest.raises(ApiError) as caught:
        patching.operations([{"op": "test", "path": "", "value": 1}] * 1001)
    assert caught.value.status == 413
