"""Images in, segmentations out. Importing this imports no torch; serving with ONNX neither."""

from model_zoo.inference.predictor import Predictor, Segmentation
from model_zoo.inference.tiles import BadImageStack

__all__ = ["BadImageStack", "Predictor", "Segmentation"]
