"""An image reads as RGB or gives an error of its own type."""

import numpy as np
import pytest
from PIL import Image

from ktr.data.image import read_image
from ktr.errors import CorruptMedia, MissingMedia, NotAnImage


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


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    for suffix in ("png", "tiff", "pgm"):
        Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16)).save(tmp_path / f"a.{suffix}")
        assert read_image(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255], suffix


def test_samples_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.array([[0.0, 2.0]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(CorruptMedia, match="mode F"):
        read_image(tmp_path / "a.tiff")


def test_colors_of_all_modes_are_those_that_are_seen(tmp_path):
    Image.new("CMYK", (4, 2), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=95)
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([255, 0, 0] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.new("LA", (4, 2), (0, 127)).save(tmp_path / "gray.png")
    assert np.abs(read_image(tmp_path / "cmyk.jpg")[0, 0].astype(int) - (255, 0, 0)).max() < 6
    assert read_image(tmp_path / "palette.png")[0, 0].tolist() == [255, 255, 255]
    assert read_image(tmp_path / "gray.png")[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_picture_lies_as_viewers_show_it(mode, tmp_path):
    picture = Image.new(mode, (6, 2))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned to the right
    picture.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png").shape == (6, 2, 3)


def test_what_is_no_picture_says_what_it_is(tmp_path, write_video):
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    write_video(tmp_path / "a.mkv")
    write_video(tmp_path / "a.mp4").rename(tmp_path / "a.png")
    for name, kind in (("a.gif", "animation"), ("a.mkv", "Matroska"), ("a.png", r"video \(MP4\)")):
        with pytest.raises(NotAnImage, match=kind):
            read_image(tmp_path / name)


def test_a_bomb_is_refused(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(CorruptMedia, match="bomb"):
        read_image(tmp_path / "bomb.png")
