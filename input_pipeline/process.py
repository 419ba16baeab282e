"""What programs of our own set for their whole process, and a library must leave to its host."""

import cv2
from PIL import Image


def prepare_process() -> None:
    """Sets OpenCV to one thread, and removes Pillow's limit on pixels.

    The pipeline and prediction have threads or processes of their own, one a core, and `transforms.EncodedImage` has a
    limit of its own.
    """
    cv2.setNumThreads(0)
    Image.MAX_IMAGE_PIXELS = None
