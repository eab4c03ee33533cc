"""Every setting, its default, its bounds and its help: one frozen dataclass a stage.

The command line's flags are made from these fields and the Python API takes the same names, so a
setting is written once. ``None`` as a default means "chosen from the data", and the run says what was chosen.
"""

from __future__ import annotations

from sightline.config.data import AuditConfig, DataConfig, LookConfig, ReadConfig
from sightline.config.serving import ServeConfig
from sightline.config.training import AugmentConfig, NetworkConfig, RunConfig, ShareConfig, TrainConfig, TrainSettings, TrialConfig
from sightline.config.using import (
    ENGINES,
    PARQUET,
    PRECISIONS,
    RAY,
    BulkConfig,
    CatalogueConfig,
    EmbedConfig,
    EngineConfig,
    ExplainConfig,
    ExportConfig,
    PredictConfig,
    RuntimeConfig,
    SignConfig,
    VerifyConfig,
)

__all__ = [
    "ENGINES",
    "PARQUET",
    "PRECISIONS",
    "RAY",
    "AuditConfig",
    "AugmentConfig",
    "BulkConfig",
    "CatalogueConfig",
    "DataConfig",
    "EmbedConfig",
    "EngineConfig",
    "ExplainConfig",
    "ExportConfig",
    "LookConfig",
    "NetworkConfig",
    "PredictConfig",
    "ReadConfig",
    "RunConfig",
    "RuntimeConfig",
    "ServeConfig",
    "ShareConfig",
    "SignConfig",
    "TrainConfig",
    "TrainSettings",
    "TrialConfig",
    "VerifyConfig",
]
