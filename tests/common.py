"""Values that several tests share."""

from stagebench.preprocessing import Preprocessing

ARCHITECTURE = "tiny.tiny_resnet"
PREPROCESSING = Preprocessing().model_dump(mode="json")
IMAGES = 32
