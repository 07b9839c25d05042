"""Describes services in AsyncAPI 3, and finds the changes of a description that break others."""

from mqkit.asyncapi.comparing import Change, differences
from mqkit.asyncapi.describing import describe
from mqkit.asyncapi.pages import page
from mqkit.asyncapi.reading import AsyncapiError, Reader, read

__all__ = ["AsyncapiError", "Change", "Reader", "describe", "differences", "page", "read"]
