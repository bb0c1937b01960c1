"""JSON documents as frozen dataclasses: their base class, and the one reader.

A field without a default is always in the file; a field with a default is left out while it has
it. The fields of a class stand in the order of the file. Their types are bool, int, float, str,
Any, tuple[X, ...], dict[str, X], X | None, and classes with `from_json`.
"""

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from brats_jax.errors import BratsError
from brats_jax.runtime.files import (
    MOST_JSON_BYTES,
    json_text,
    read_json,
    read_regular,
    write_json,
)


class Readable(Protocol):
    """A class that `read_document` reads: it has a schema and parses a JSON object."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self: ...


D = TypeVar("D", bound=Readable)
OwnDocument = TypeVar("OwnDocument", bound="Document")

# Exceptions of parsing an object of the wrong form.
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def read_document(path: Path, kind: type[D], remedy: str = "") -> D:
    """Reads a document.

    Args:
      path: the file.
      kind: the class of the document.
      remedy: what to do about an unreadable one; default: what its class says.

    Raises:
      BratsError: one line where the file is missing, truncated, not JSON, of another schema or
        version, or has a field that is missing or of another type.
    """
    remedy = remedy or getattr(kind, "REMEDY", Document.REMEDY)
    document = read_json(path, remedy)
    try:
        return kind.from_json(document)
    except _MISFITS as error:
        raise BratsError(f"{path}: {error}; {remedy}") from None


def read_if_there(path: Path, kind: type[D], remedy: str = "") -> D | None:
    """Reads a document; None where there is no file. Errors as in `read_document`."""
    return read_document(path, kind, remedy) if path.exists() else None


def read_if_readable(path: Path, kind: type[D]) -> D | None:
    """Reads a document; None where there is no file, or it cannot be read."""
    try:
        return read_if_there(path, kind)
    except BratsError:
        return None


def read_own_if_there(path: Path, kind: type[OwnDocument], remedy: str) -> OwnDocument | None:
    """Reads a document; None where there is no file, or one that names another schema.

    Raises:
      BratsError: a document of this schema was edited or damaged.
    """
    try:
        return read_if_there(path, kind, remedy)
    except BratsError:
        if has_schema_of(path, kind):
            raise
        return None


def has_schema_of(path: Path, kind: "type[Document]") -> bool:
    """Whether a file names the schema of a document, readable or not."""
    try:
        return f'"{kind.SCHEMA}"'.encode() in read_regular(path, MOST_JSON_BYTES)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Part:
    """A JSON object within a document."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the object; ignores fields that it does not know.

        Raises:
          ValueError: a field is missing or of another type.
        """
        values = {}
        for field, annotation in _fields(cls):  # type: ignore[arg-type]
            if field.name in document:
                values[field.name] = _parse(document[field.name], annotation, field.name)
            elif not _has_default(field):
                raise ValueError(f"'{field.name}' is missing")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The object as it stands in the file."""
        return {
            field.name: _as_json(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if not (_has_default(field) and getattr(self, field.name) == _default(field))
        }


@dataclass(frozen=True)
class Document(Part):
    """A JSON file.

    Attributes:
      SCHEMA, VERSION: as the file states them; without a schema the file states neither.
      VERSION_KEY: the key of the version.
      REMEDY: what to do about a file that cannot be read.
    """

    SCHEMA: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    VERSION_KEY: ClassVar[str] = "version"
    REMEDY: ClassVar[str] = "give another --workdir, or copy the file again if it was copied"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the document; ignores fields that it does not know.

        Raises:
          ValueError: another schema or version, or a field that is missing or of another type.
        """
        found = (document.get("schema"), document.get(cls.VERSION_KEY))
        if cls.SCHEMA and found != (cls.SCHEMA, cls.VERSION):
            raise ValueError(
                f"not a version {cls.VERSION} {cls.SCHEMA} file (it says {found[0]} {found[1]})"
            )
        return super().from_json(document)

    def to_json(self) -> dict[str, Any]:
        """The document as it stands in the file."""
        kind = {"schema": self.SCHEMA, self.VERSION_KEY: self.VERSION} if self.SCHEMA else {}
        return {**kind, **super().to_json()}

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        write_json(path, self.to_json())


@dataclass(frozen=True)
class Sealed(Document):
    """A JSON file that holds the SHA-256 of itself.

    Attributes:
      SEAL: the field with the SHA-256 of the other entries; '' in documents of version 0.1.0, which
        are not compared. It is no content: a document equals the same one read from a file.
      CHANGED: what is wrong with a document that is not as it was sealed.
    """

    SEAL: ClassVar[str]
    CHANGED: ClassVar[str] = "it has changed since it was written (its SHA-256 differs)"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the document.

        Raises:
          ValueError: as in `Document`; or the document is not as it was sealed.
        """
        parsed = super().from_json(document)
        seal = getattr(parsed, cls.SEAL)
        if seal and seal != cls._digest(document):
            raise ValueError(cls.CHANGED)
        return parsed

    def to_json(self) -> dict[str, Any]:
        """The document as it stands in the file; its SHA-256 is last."""
        document = super().to_json()
        seals = {name: document.pop(name) for name in (self.SEAL,) if name in document}
        return {**document, **seals}

    def sealed(self) -> Self:
        """The document with its SHA-256."""
        return dataclasses.replace(self, **{self.SEAL: self._digest(self.to_json())})

    def write(self, path: Path) -> None:
        """Seals the document, and writes the file, whole or not at all."""
        write_json(path, self.sealed().to_json())

    @classmethod
    def _digest(cls, document: Mapping[str, Any]) -> str:
        others = {name: value for name, value in document.items() if name != cls.SEAL}
        # As it reads back: NaN is written as null.
        read = json.loads(json_text(others))
        return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SealedDocument(Sealed):
    """A sealed document whose SHA-256 is called `sha256`."""

    SEAL: ClassVar[str] = "sha256"
    sha256: str = dataclasses.field(default="", kw_only=True, compare=False)


@dataclass(frozen=True)
class SealedDescription(Sealed):
    """A sealed document that describes other files, whose hashes are called `sha256`."""

    SEAL: ClassVar[str] = "document_sha256"
    document_sha256: str = dataclasses.field(default="", kw_only=True, compare=False)


@functools.cache
def _fields(kind: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    annotations = typing.get_type_hints(kind)
    return [(field, annotations[field.name]) for field in dataclasses.fields(kind)]  # type: ignore[arg-type]


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _parse(value: Any, annotation: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or (annotation is float and type(value) is int):
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _parse(value, arguments[0], name)
    if origin is tuple and isinstance(value, list):
        return tuple(_parse(item, arguments[0], name) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _parse(item, arguments[1], f"{name}.{key}") for key, item in value.items()}
    if hasattr(annotation, "from_json") and isinstance(value, dict):
        try:
            return annotation.from_json(value)
        except ValueError as error:
            raise ValueError(f"in '{name}': {error}") from None
    if type(value) is not annotation:
        raise ValueError(f"'{name}' is {str(value)[:40]!r}, not {_words(annotation)}")
    return value


def _words(annotation: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if typing.get_origin(annotation) is tuple:
        return "a list"
    return words.get(annotation, "an object")


def _as_json(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value
