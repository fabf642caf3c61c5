"""Codecs to train: the package's own by class, the user's by import string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from diffjscc.codecs.joint import JointCodec
from diffjscc.configuration import Section, check
from diffjscc.pretrained.build import build_codec
from diffjscc.schemes.plugins import import_object

TrainableCodec = Any
