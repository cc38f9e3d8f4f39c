"""What all settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0.0)]


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
