"""What a model is: encoders × decoders, weights, versions, inference.

Nothing in this package knows how to train, or that Label Studio exists. Importing it is cheap
(no torch) and makes the process ready for torchvision wheels without their compiled operators.
"""

import os

from model_zoo.torchvision_operators import declare_when_missing

declare_when_missing()
os.environ.setdefault(
    "HF_HUB_DISABLE_TELEMETRY", "1"
)  # nothing phones home; read when the hub's client loads
