"""Reverse Distillation (Deng & Li, CVPR 2022, arXiv 2201.10703). No threads, no configuration, no files but weights."""

from inspector.model.anomaly_map import AnomalyMapMode, MapNormalisation
from inspector.model.backbones import BACKBONES, BottleneckWidth, Student
from inspector.model.loss import ReverseDistillationLoss
from inspector.model.reverse_distillation import ReverseDistillation

__all__ = [
    "BACKBONES",
    "AnomalyMapMode",
    "BottleneckWidth",
    "MapNormalisation",
    "ReverseDistillation",
    "ReverseDistillationLoss",
    "Student",
]
