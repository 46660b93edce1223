import io
import os
import pickle
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from digits.errors import DataError
from digits.labeling import image_files
from digits.labeling.image_files import MAX_SIDE, read_grey, to_grey
from digits.labeling.image_search import find_files
from tests.support.memory import peak_memory

# A dark bar on a light background, off center, so that rotation and mirroring show.
BAR = np.full((40, 60), 230, np.uint8)
BAR[5:30, 10:16] = 20


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def with_alpha(ink: int) -> Image.Image:
    """The bar in a single gray on a transparent background."""
    picture = Image.new("LA", (60, 40))
    picture.putdata([(ink, 255 if dark else 0) for dark in (BAR < 128).ravel()])
    return picture


def read(content: bytes, tmp_path: Path, name: str = "picture.png") -> np.ndarray:
    path = tmp_path / name
    path.write_bytes(content)
    return read_grey(str(path))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def announcing(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims this many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


GREY = Image.fromarray(BAR)
MODES = {
    "gray": GREY,
    "color": GREY.convert("RGB"),
    "palette": GREY.convert("P"),
    "alpha": GREY.convert("RGBA"),
    "gray and alpha": GREY.convert("LA"),
    "sixteen bits": Image.fromarray(BAR.astype(np.uint16) * 257 + 100),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_png_mode_reads_as_the_same_gray(tmp_path: Path, mode: str) -> None:
    assert np.abs(read(encoded(MODES[mode]), tmp_path).astype(int) - BAR).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_jpeg_mode_reads_as_the_same_gray(tmp_path: Path, mode: str) -> None:
    content = encoded(GREY.convert(mode), "JPEG", quality=95)

    assert np.abs(read(content, tmp_path, "picture.jpeg").astype(int) - BAR).max() <= 12


def test_one_bit_per_pixel_reads_as_black_and_white(tmp_path: Path) -> None:
    content = encoded(GREY.convert("1", dither=Image.Dither.NONE))

    assert read(content, tmp_path).tolist() == np.where(BAR < 128, 0, 255).tolist()


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (40, 255), (255, 0), (200, 0)])
def test_a_transparent_background_contrasts_with_the_drawing(
    tmp_path: Path, ink: int, ground: int
) -> None:
    assert (
        read(encoded(with_alpha(ink)), tmp_path).tolist()
        == np.where(BAR < 128, ink, ground).tolist()
    )


def test_a_transparent_palette_color_is_background(tmp_path: Path) -> None:
    palette = GREY.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    ground = palette.getpixel((0, 0))

    grey = read(encoded(palette, transparency=ground), tmp_path)

    assert (grey[BAR > 128] == 255).all()
    assert (grey[BAR < 128] < 30).all()


def test_a_fully_transparent_image_is_blank() -> None:
    assert len(np.unique(to_grey(Image.new("RGBA", (5, 5))))) == 1


def test_an_image_with_exif_orientation_is_rotated(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = GREY.transpose(Image.Transpose.ROTATE_90)

    grey = read(encoded(turned, "JPEG", quality=95, exif=exif), tmp_path, "phone.jpg")

    assert grey.shape == BAR.shape
    assert np.abs(grey.astype(int) - BAR).max() <= 12


def test_a_large_image_is_reduced_and_keeps_its_aspect_ratio(tmp_path: Path) -> None:
    large = GREY.resize((3000, 2000), Image.Resampling.NEAREST)

    grey = read(encoded(large), tmp_path)

    assert max(grey.shape) <= MAX_SIDE
    assert grey.shape[1] / grey.shape[0] == pytest.approx(1.5, abs=0.02)
    assert abs(grey.mean() - BAR.mean()) < 3


# 100 million pixels exceed Pillow's limit, where it only warns; 40 billion exceed twice the limit.
@pytest.mark.parametrize("side", [10_000, 200_000])
def test_a_decompression_bomb_is_rejected_before_a_pixel_is_decoded(
    tmp_path: Path, side: int
) -> None:
    with warnings.catch_warnings():
        # Outside the tests, warnings are not errors.
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=r"larger than the limit of [\d,]+ pixels"):
            read(announcing(side, side), tmp_path)


def test_text_that_decompresses_without_bound_is_not_read(tmp_path: Path) -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))
    content = encoded(GREY)

    with peak_memory(at_most=10_000_000):
        grey = read(content[:33] + bomb + content[33:], tmp_path)

    assert grey.tolist() == BAR.tolist()


@given(share=st.floats(0, 0.9))
@example(share=0.0)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_is_rejected(kind: str, share: float) -> None:
    content = encoded(Image.effect_noise((64, 64), 90), kind)

    with pytest.raises(DataError):
        image_files.decode_image(content[: int(share * len(content))])


@given(place=st.floats(0, 1), bits=st.integers(1, 255), kind=st.sampled_from(["PNG", "JPEG"]))
def test_a_corrupted_image_is_either_read_or_rejected(place: float, bits: int, kind: str) -> None:
    content = bytearray(encoded(GREY.convert("P" if kind == "PNG" else "L"), kind))
    content[int(place * (len(content) - 1))] ^= bits

    try:
        grey = image_files.decode_image(bytes(content)).grey
    except DataError:
        return
    assert grey.dtype == np.uint8
    assert grey.ndim == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello, world", "not a PNG, JPEG, WebP"),
        (encoded(GREY, "PPM"), "not a PNG, JPEG, WebP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG, JPEG, WebP"),
    ],
    ids=["empty", "text", "ppm", "postscript"],
)
def test_other_formats_are_rejected_whatever_the_file_name(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read(content, tmp_path)


class Planted:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    planted = tmp_path / "unpickled"

    with pytest.raises(DataError):
        read(pickle.dumps(Planted(planted)), tmp_path)

    assert not planted.exists()


def test_a_file_that_is_too_large_is_not_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "MAX_BYTES", 100)

    with pytest.raises(DataError, match="larger than the limit of 100 bytes"):
        read(encoded(GREY), tmp_path)


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_grey(str(tmp_path / "nothing.png"))


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")

    for path in (str(tmp_path / "pipe.png"), "/dev/zero"):
        with pytest.raises(DataError, match="is not a file"):
            read_grey(path)


def test_standard_input_is_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(encoded(GREY))))

    assert read_grey("-").tolist() == BAR.tolist()


def test_folders_yield_their_images_in_order_and_files_yield_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name in ("b.png", "a.JPG", "c.jpeg", "notes.txt", ".hidden.png", "deep/er/d.png", "z"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    found = list(find_files(["first", str(folder), "-", str(folder / "z")]))

    below = ["a.JPG", "b.png", "c.jpeg", "deep/er/d.png"]
    assert found == ["first", *(str(folder / name) for name in below), "-", str(folder / "z")]


def test_files_are_sorted_by_name_not_by_creation(tmp_path: Path) -> None:
    names = [f"{folder}/{file}.png" for folder in "gcaedbhf" for file in "312"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert list(find_files([str(tmp_path)])) == [str(tmp_path / name) for name in sorted(names)]


def test_folders_are_walked_lazily(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "later").mkdir()

    files = find_files([str(tmp_path)])

    assert next(files) == str(tmp_path / "1.png")
    (tmp_path / "later" / "2.png").touch()
    assert list(files) == [str(tmp_path / "later" / "2.png")]


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_read_as_the_same_gray(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}

    assert read(encoded(GREY, kind, **options), tmp_path).tolist() == BAR.tolist()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG"])
def test_of_several_images_in_a_file_the_first_is_read(tmp_path: Path, kind: str) -> None:
    others = [GREY.transpose(Image.Transpose.FLIP_TOP_BOTTOM), Image.new("L", GREY.size)]
    (tmp_path / "several").write_bytes(encoded(GREY, kind, save_all=True, append_images=others))

    image = image_files.read_image(str(tmp_path / "several"))

    assert image.grey.tolist() == BAR.tolist()
    assert image.num_frames == 3


@pytest.mark.parametrize("bits", [4, 8, 10, 12, 16])
def test_deep_images_that_use_few_bits_keep_their_contrast(tmp_path: Path, bits: int) -> None:
    top = 2**bits - 1
    pixels = np.where(BAR < 128, 0, top).astype(np.uint16)

    grey = read(encoded(Image.fromarray(pixels)), tmp_path)

    assert grey.tolist() == np.where(BAR < 128, 0, 255).tolist()


def test_deep_images_far_from_both_ends_of_their_range_keep_their_contrast(tmp_path: Path) -> None:
    pixels = np.where(BAR < 128, 30_000, 33_000).astype(np.uint16)

    grey = read(encoded(Image.fromarray(pixels)), tmp_path)

    assert (grey.min(), grey.max()) == (0, 255)


def test_eight_bit_images_that_use_two_bits_keep_their_contrast(tmp_path: Path) -> None:
    grey = read(encoded(Image.fromarray(np.where(BAR < 128, 0, 3).astype(np.uint8))), tmp_path)

    assert grey.tolist() == np.where(BAR < 128, 0, 255).tolist()


def test_damaged_profiles_and_long_texts_do_not_matter(tmp_path: Path) -> None:
    content = encoded(GREY)
    extras = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000)))
    extras += chunk(b"iTXt", b"Comment\0\1\0\0\0" + b"no compressed text")
    extras += chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000)

    assert read(content[:33] + extras + content[33:], tmp_path).tolist() == BAR.tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0", b"\0" * 40])
def test_damaged_exif_data_does_not_matter(
    tmp_path: Path, kind: str, exif: bytes, recwarn: pytest.WarningsRecorder
) -> None:
    grey = read(encoded(GREY, kind, exif=exif), tmp_path)

    assert grey.shape == BAR.shape
    assert not recwarn.list
