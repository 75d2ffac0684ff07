"""Images in, segmentations out. Importing this imports no torch; serving with ONNX neither."""

from model_zoo.inference.predictor import Predictor, Segmentation, most_probable
from model_zoo.inference.tiles import BadImageStack, Band

__all__ = ["BadImageStack", "Band", "Predictor", "Segmentation", "most_probable"]
