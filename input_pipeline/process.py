"""What programs of our own set for their whole process, and a library must leave to its host."""

import cv2
from PIL import Image


def prepare_process() -> None:
    """Leaves OpenCV one thread, and sizes of images to `transforms.EncodedImage`.

    The pipeline and prediction have threads or processes of their own, one a core. Of images that `EncodedImage`
    refuses Pillow would warn, too.
    """
    cv2.setNumThreads(0)
    Image.MAX_IMAGE_PIXELS = None
