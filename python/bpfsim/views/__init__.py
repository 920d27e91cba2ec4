"""How things look: in Jupyter a live picture, without scripts a table or an image, in a terminal plain text."""

from .function_graph import FunctionGraph
from .object_graph import ObjectGraph
from .page import Frame, Stepper
from .stages import Stages

__all__ = ["Frame", "FunctionGraph", "ObjectGraph", "Stages", "Stepper"]
