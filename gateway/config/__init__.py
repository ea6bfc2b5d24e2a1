"""The configuration: one YAML file to frozen models, or to everything that is wrong with it.

Only re-exports what the wiring uses. Nothing below the wiring imports this package.
"""

from __future__ import annotations

from gateway.config.checks import warnings
from gateway.config.compile import compile_policy
from gateway.config.files import check_files
from gateway.config.load import load_config, parse_config
from gateway.config.problems import ConfigError, Problem
from gateway.config.schema import GatewayConfig, json_schema

__all__ = [
    "ConfigError",
    "GatewayConfig",
    "Problem",
    "check_files",
    "compile_policy",
    "json_schema",
    "load_config",
    "parse_config",
    "warnings",
]
