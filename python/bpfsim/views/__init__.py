"""How things look: in Jupyter a live picture, without scripts a table or an image, in a terminal plain text."""

from .function_graph import FunctionGraph
from .map_inside import MapView
from .map_ops import OpsMatrix, OpsTable
from .object_graph import ObjectGraph
from .page import Frame, Stepper
from .stages import Stages

__all__ = ["Frame", "FunctionGraph", "MapView", "ObjectGraph", "OpsMatrix", "OpsTable", "Stages", "Stepper"]
