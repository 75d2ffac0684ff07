"""What a model is: encoders × decoders, weights, versions, inference.

Nothing in this package knows how to train, or that Label Studio exists. Importing it is cheap
(no torch) and makes the process ready for torchvision wheels without their compiled operators.
"""

from model_zoo.torchvision_operators import declare_when_missing

declare_when_missing()
