"""Lists of texts in the settings: a list in the file, a tuple here, so that nothing of the settings can be changed."""

from typing import Annotated

from pydantic import BeforeValidator


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_frozen)]
