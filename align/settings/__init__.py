"""The settings of each stage: strict, frozen, light to import. A recipe is made of these."""

from align.settings.base import Positive, Settings, Share, Weight
from align.settings.data import (
    CHECKLIST,
    ChecklistItem,
    DataSettings,
    FimLevel,
    FimSettings,
    FimWrapper,
    MakeSettings,
    QualitySettings,
    RowSource,
)
from align.settings.engines import SandboxSettings, ServingSettings
from align.settings.outcome import Block, EvalPrompt, EvalSettings, ExportSettings, ReportSettings
from align.settings.preference import (
    CalibrationSettings,
    JudgeSettings,
    PairSettings,
    Rule,
    SampleSettings,
    SelectSettings,
    VerifySettings,
)
from align.settings.training import (
    DpoSettings,
    LoraSettings,
    PreferenceLoss,
    SftSettings,
    Tracker,
)

__all__ = [
    "CHECKLIST",
    "Block",
    "CalibrationSettings",
    "ChecklistItem",
    "DataSettings",
    "DpoSettings",
    "EvalPrompt",
    "EvalSettings",
    "ExportSettings",
    "FimLevel",
    "FimSettings",
    "FimWrapper",
    "JudgeSettings",
    "LoraSettings",
    "MakeSettings",
    "PairSettings",
    "Positive",
    "PreferenceLoss",
    "QualitySettings",
    "ReportSettings",
    "RowSource",
    "Rule",
    "SampleSettings",
    "SandboxSettings",
    "SelectSettings",
    "ServingSettings",
    "Settings",
    "SftSettings",
    "Share",
    "Tracker",
    "VerifySettings",
    "Weight",
]
