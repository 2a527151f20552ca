"""An image reads as RGB or gives an error of its own type."""

import numpy as np
import pytest
from PIL import Image

from ktr.data.image import read_image
from ktr.errors import CorruptMedia, MissingMedia


def test_pixels_are_rgb_and_transparency_is_white(tmp_path):
    pixels = np.zeros((3, 5, 4), np.uint8)
    pixels[0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 5, 3)
    assert image[0, 0].tolist() == [10, 20, 30] and image[1, 0].tolist() == [255, 255, 255]


def test_gray_and_palette_images_become_rgb(tmp_path):
    for mode in ("L", "P", "1", "CMYK"):
        path = tmp_path / f"{mode}.tiff"
        Image.new(mode, (4, 2)).save(path)
        assert read_image(path).shape == (2, 4, 3)


def test_bad_images_are_typed(tmp_path):
    with pytest.raises(MissingMedia, match="none"):
        read_image(tmp_path / "none.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.random.randint(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.png", "text.png", "cut.png"):
        with pytest.raises(CorruptMedia, match=name):
            read_image(tmp_path / name)
