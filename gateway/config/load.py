"""A configuration file to a checked configuration, or to the list of everything wrong with it.

Reads that one file and nothing else. Imports the reader, the models and the checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.checks import Parts, cross_check
from gateway.config.directory import DirectoryConfig
from gateway.config.document import SIZE_LIMIT_BYTES, Document, Value, read_document
from gateway.config.problems import ConfigError, Finding, Keys, Problem, did_you_mean
from gateway.config.schema import (
    AuditConfig,
    GatewayConfig,
    GroupConfig,
    KeysConfig,
    ServerConfig,
    UserCaConfig,
)
from gateway.config.storage import StorageConfig
from gateway.model import Clock, system_clock

Model = TypeVar("Model", bound=BaseModel)


def load_config(path: Path) -> GatewayConfig:
    """Return the configuration in the file ``path``; raises ConfigError with every problem."""
    try:
        with path.open("rb") as file:
            text = file.read(SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = Problem(
            path,
            1,
            1,
            "",
            f"the file cannot be read ({reason}).",
            "Name the configuration with -c or in SEALGATE_CONFIG.",
        )
        raise ConfigError([problem]) from error
    return parse_config(text, path)


def parse_config(text: bytes, source: Path, *, clock: Clock = system_clock) -> GatewayConfig:
    """Return the configuration that ``text`` writes; raises ConfigError with every problem.

    ``source`` is the file that problems name; relative paths start from its folder. No file is
    looked at: that is ``check_files``' part. What was good once stays good as ``clock`` goes on.
    """
    document = read_document(text, source)
    if not document.complete:
        raise ConfigError(document.problems)
    problems = list(document.problems)
    config: GatewayConfig | None = None
    findings = list(_empty_values(document.top, ()))
    try:
        config = GatewayConfig.from_document(document)
    except ValidationError as error:
        findings += (
            _finding(detail, document)
            for detail in error.errors(include_url=False)
            # A list of nothing but wrong items is short in pydantic's eyes, not in a person's.
            if not (detail["type"] == "too_short" and detail["input"])
        )
    findings += cross_check(_salvage(document), clock())
    seen = {(problem.line, problem.key) for problem in problems}
    for finding in findings:
        problem = document.place(finding)
        # The first thing wrong with a value explains it best; the rest follows from it.
        if (problem.line, problem.key) not in seen:
            seen.add((problem.line, problem.key))
            problems.append(problem)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _empty_values(value: Value, keys: Keys) -> Iterator[Finding]:
    """Yield the keys and items with nothing behind them, where that would not be plain.

    An empty ``networks:`` whose lines were commented out must not come to mean "anywhere".
    """
    if value is None and not _may_be_empty(keys):
        yield Finding(keys, "has no value.", "Give it one, or remove the line.")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _empty_values(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _empty_values(item, (*keys, index))


def _may_be_empty(keys: Keys) -> bool:
    return keys == ("audit",) or (len(keys) == 2 and keys[0] == "shares")


def _finding(detail: ErrorDetails, document: Document) -> Finding:
    """Return what pydantic found, in words for someone who edits YAML."""
    keys: Keys = detail["loc"]
    if keys[-1:] == ("[key]",):
        context = detail["ctx"]
        return Finding(keys[:-1], context["message"], context["remedy"], at_key=True)
    # A single item stands where a list was allowed: there is no place number in the file.
    while keys and isinstance(keys[-1], int) and keys not in document.value_marks:
        keys = keys[:-1]
    match detail["type"]:
        case "sealgate":
            context = detail["ctx"]
            return Finding(keys, context["message"], context["remedy"])
        case "extra_forbidden":
            remedy = did_you_mean(str(keys[-1]), _known_keys(keys[:-1]))
            return Finding(keys, "unknown key.", remedy, at_key=True)
        case "missing":
            return Finding(keys, "is missing.", _addition(keys))
        case "model_type" | "dict_type" | "model_attributes_type":
            known = ", ".join(_known_keys(keys))
            remedy = f"Write keys below it: {known}." if known else "Write names below it."
            return Finding(keys, "needs keys of its own.", remedy)
        case "tuple_type" | "list_type":
            return Finding(keys, "needs a list.", "Write it as in '[one, two]'.")
        case "too_short":
            return Finding(keys, "is an empty list.", "Name at least one, or remove the line.")
        case _:
            return Finding(keys, f"{detail['msg']}.", "See config.example.yaml.")


def _addition(keys: Keys) -> str:
    model = _model_at(keys[:-1])
    fields = {} if model is None else model.model_fields
    described = {field.alias or name: field.description for name, field in fields.items()}
    return f"Add '{keys[-1]}': {described.get(str(keys[-1]))}"


def _known_keys(keys: Keys) -> list[str]:
    model = _model_at(keys)
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(keys: Keys) -> type[BaseModel] | None:
    """Return the model whose keys stand at ``keys``; None where names are free or values are."""
    kind: Any = GatewayConfig
    for key in keys:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = {field.alias or name: field for name, field in kind.model_fields.items()}
            kind = fields[str(key)].annotation if key in fields else None
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
        kind = _bare(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _bare(kind: Any) -> Any:  # noqa: ANN401  a type expression
    """Return ``kind`` without its annotations and without None."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return _bare(next(part for part in get_args(kind) if part is not NoneType))
    return kind


def _salvage(document: Document) -> Parts:
    """Return the parts of ``document`` that are valid by themselves."""
    top = document.top
    base = document.file.absolute().parent

    def part(model: type[Model], value: Value) -> Model | None:
        try:
            return model.model_validate(value, context=base)
        except ValidationError:
            return None

    shares, groups, cas = top.get("shares"), top.get("groups"), top.get("user_cas")
    valid_groups = {
        name: group
        for name, value in (groups.items() if isinstance(groups, dict) else ())
        if (group := part(GroupConfig, value)) is not None
    }
    return Parts(
        server=part(ServerConfig, top.get("server")),
        storage=part(StorageConfig, top.get("storage")),
        keys=part(KeysConfig, top.get("keys")),
        directory=part(DirectoryConfig, top.get("directory")),
        audit=part(AuditConfig, top.get("audit") or {}),
        share_names=tuple(shares) if isinstance(shares, dict) else (),
        groups=valid_groups,
        group_names=tuple(groups) if isinstance(groups, dict) else (),
        user_cas={
            name: authority
            for name, value in (cas.items() if isinstance(cas, dict) else ())
            if (authority := part(UserCaConfig, value)) is not None
        },
    )
