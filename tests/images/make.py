"""Makes the files beside it: images of every kind, and the pixels that Pillow sees in them.

    python -m venv target/venv && target/venv/bin/pip install pillow==12.3.0
    target/venv/bin/python tests/images/make.py

pixels/FILE.rgb holds the pixels of FILE, upright, three bytes a pixel, and pixels/fit_NAME.rgb those of
photo.png, fitted. Nothing is random. tests/images.rs tells what each file stands for.

Pillow 12, because from 13 on resize() may begin with the columns, which rounds some values otherwise.
"""

import io
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent
WIDTH, HEIGHT = 24, 16


def scene(mode, width=WIDTH, height=HEIGHT):
    """A picture without any symmetry: ramps, a bright square, a diagonal line."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            r, g, b = 255 * x // width, 255 * y // height, 255 * (x + y) // (width + height)
            if 2 <= x < 8 and 3 <= y < 7:
                r, g, b = 250, 240, 20
            if x == 2 * y:
                r, g, b = 10, 20, 200
            image.putpixel((x, y), (r, g, b))
    if mode in ("RGBA", "LA"):
        alpha = Image.new("L", (width, height))
        alpha.putdata([(7 * i) % 256 for i in range(width * height)])
        image = image.convert(mode)
        image.putalpha(alpha)
        return image
    if mode == "CMYK":
        c, m, y = image.split()
        k = Image.linear_gradient("L").resize((width, height)).point(lambda v: v // 2)
        return Image.merge("CMYK", (y, c, m, k))
    return image.convert(mode)


def noise(width, height):
    """Every frequency there is, from a linear congruential generator."""
    state, values = 1, bytearray()
    for _ in range(3 * width * height):
        state = (state * 1103515245 + 12345) % 2**31
        values.append(state >> 16 & 0xFF)
    return Image.frombytes("RGB", (width, height), bytes(values))


def save(name, image, **options):
    image.save(HERE / name, **options)


def png(width, height, bits, colour_type, rows, interlaced=0):
    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def save_png_16(name, colour_type, channels):
    """A PNG of 16 bits a channel, which Pillow reads but does not write."""
    values = range(HEIGHT * WIDTH * channels)
    samples = [struct.pack(">H", (v * 40503 + 12345) % 65536) for v in values]
    row = WIDTH * channels
    rows = b"".join(b"\0" + b"".join(samples[y * row : (y + 1) * row]) for y in range(HEIGHT))
    (HERE / name).write_bytes(png(WIDTH, HEIGHT, 16, colour_type, rows))


def save_png_interlaced(name, image):
    """An RGB PNG in the seven passes of Adam7, which Pillow reads but does not write."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for x0, y0, dx, dy in passes:
        for y in range(y0, HEIGHT, dy):
            rows += b"\0" + b"".join(bytes(image.getpixel((x, y))) for x in range(x0, WIDTH, dx))
    (HERE / name).write_bytes(png(WIDTH, HEIGHT, 8, 2, rows, interlaced=1))


def save_bmp(name, bits, rows, *, top_down=False, compression=0, masks=(), palette=None, oldest=False):
    """A BMP of a kind that Pillow reads but does not write. Rows from the top; runs already compressed."""
    colours = b"".join(bytes(colour[::-1]) + (b"" if oldest else b"\0") for colour in palette or ())
    if oldest:
        header = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        length = 108 if len(masks) == 4 else 40
        height = -HEIGHT if top_down else HEIGHT
        header = struct.pack("<IiiHHIIIIII", length, WIDTH, height, 1, bits, compression, 0, 0, 0, len(palette or ()), 0)
        header = (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(length, b"\0")
    pixels = b"".join(rows if top_down else rows[::-1])
    offset = 14 + len(header) + len(colours)
    file_header = struct.pack("<2sIII", b"BM", offset + len(pixels), 0, offset)
    (HERE / name).write_bytes(file_header + header + colours + pixels)


def rows_of(image, pixel):
    """The rows of an image, filled up to 4 bytes; `pixel` gives the bytes of one."""
    rows = (b"".join(pixel(*image.getpixel((x, y))) for x in range(WIDTH)) for y in range(HEIGHT))
    return [row + b"\0" * (-len(row) % 4) for row in rows]


def nibbles(indices):
    return bytes(a << 4 | b for a, b in zip(indices[::2], indices[1::2]))


def run_lengths(image, bits):
    """The rows of a palette's image by runs: of what is alike, and of 6 indices each where nothing is."""
    rows = []
    for y in range(HEIGHT):
        row, rest = b"", bytes(image.getpixel((x, y)) for x in range(WIDTH))
        while rest:
            alike = len(rest) - len(rest.lstrip(rest[:1]))
            if alike > 1 or len(rest) < 6:
                index = rest[0] if bits == 8 else rest[0] << 4 | rest[0]
                row, rest = row + bytes([alike, index]), rest[alike:]
            else:
                plain = rest[:6] if bits == 8 else nibbles(rest[:6])
                row, rest = row + b"\0\6" + plain + b"\0" * (len(plain) % 2), rest[6:]
        rows.append(row + b"\0\0")
    return rows


def bmps():
    rgb = scene("RGB")
    save_bmp("rgb_top_down.bmp", 24, rows_of(rgb, lambda r, g, b: bytes([b, g, r])), top_down=True)
    rows = rows_of(rgb, lambda r, g, b: struct.pack("<H", r >> 3 << 10 | g >> 3 << 5 | b >> 3))
    save_bmp("rgb_555.bmp", 16, rows)
    rows = rows_of(rgb, lambda r, g, b: struct.pack("<H", r >> 3 << 11 | g >> 2 << 5 | b >> 3))
    save_bmp("rgb_565.bmp", 16, rows, compression=3, masks=(0xF800, 0x07E0, 0x001F))
    masks = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    rows = rows_of(scene("RGBA"), lambda r, g, b, a: bytes([r, g, b, a]))
    save_bmp("rgba_masks.bmp", 32, rows, compression=3, masks=masks)

    for bits, colours in ((8, 40), (4, 13)):
        image = rgb.quantize(colours)
        palette = list(zip(*[iter(image.getpalette())] * 3))
        rows = run_lengths(image, bits)
        rows[0] += b"\0\1"  # the last in the file
        save_bmp(f"palette_rle{bits}.bmp", bits, rows, compression=1 if bits == 8 else 2, palette=palette)
    rows = [nibbles(bytes(image.getpixel((x, y)) for x in range(WIDTH))) for y in range(HEIGHT)]
    save_bmp("palette_oldest.bmp", 4, rows, palette=(palette + [(0, 0, 0)] * 16)[:16], oldest=True)


def save_ycck(name, **options):
    """A CMYK JPEG relabelled as YCCK: byte 11 of Adobe's segment names the transform."""
    buffer = io.BytesIO()
    scene("CMYK").save(buffer, "JPEG", **options)
    data = bytearray(buffer.getvalue())
    adobe = data.index(b"Adobe")
    assert data[adobe + 11] == 0
    data[adobe + 11] = 2
    (HERE / name).write_bytes(data)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


EXIF_PREFIX = b"Exif\0\0"


def prefix_exif(source, name, tiff):
    """The WebP file with JPEG's prefix in its EXIF chunk, as some programs write it."""
    before, found, behind = (HERE / source).read_bytes().partition(b"EXIF")
    assert found and behind[4:].rstrip(b"\0") == tiff.rstrip(b"\0")
    body = EXIF_PREFIX + tiff
    chunk = b"EXIF" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    riff = before[8:] + chunk
    (HERE / name).write_bytes(b"RIFF" + struct.pack("<I", len(riff)) + riff)


def images():
    rgb = scene("RGB")
    save("rgb.png", rgb)
    save("rgba.png", scene("RGBA"))
    save("grey.png", scene("L"))
    save("grey_alpha.png", scene("LA"))
    save("grey_transparent.png", scene("L"), transparency=100)
    save("grey_1bit.png", scene("1"))
    save("palette.png", rgb.quantize(40))
    save("palette_4bit.png", rgb.quantize(13), bits=4)
    save("palette_transparent.png", rgb.quantize(40), transparency=bytes(range(0, 240, 6)))
    save_png_16("rgb_16bit.png", 2, 3)
    save_png_16("rgba_16bit.png", 6, 4)
    save_png_16("grey_16bit.png", 0, 1)
    save_png_16("grey_alpha_16bit.png", 4, 2)
    save_png_interlaced("interlaced.png", rgb)
    save("animated.png", rgb, save_all=True, append_images=[rgb.rotate(180)])
    save("one_pixel.png", Image.new("RGB", (1, 1), (200, 100, 50)))
    save("one_row.png", noise(1000, 1))

    save("rgb_444.jpg", rgb, quality=90, subsampling="4:4:4")
    save("rgb_420.jpg", rgb, quality=90, subsampling="4:2:0")
    save("rgb_progressive.jpg", rgb, quality=90, subsampling="4:2:0", progressive=True)
    save("rgb_restart.jpg", rgb, quality=90, restart_marker_blocks=2)
    save("rgb_not_ycc.jpg", rgb, quality=90, keep_rgb=True)
    save("grey.jpg", scene("L"), quality=90)
    save("cmyk.jpg", scene("CMYK"), quality=90, subsampling="4:4:4")
    save_ycck("ycck_444.jpg", quality=90, subsampling="4:4:4")
    save_ycck("ycck_420.jpg", quality=90, subsampling="4:2:0")

    save("lossy.webp", rgb, quality=90)
    save("lossy_alpha.webp", scene("RGBA"), quality=90, exact=True)
    save("lossless.webp", rgb, lossless=True)
    save("lossless_alpha.webp", scene("RGBA"), lossless=True, exact=True)
    save("animated.webp", rgb, save_all=True, append_images=[rgb.rotate(180)], lossless=True)

    save("rgb.bmp", rgb)
    save("rgba.bmp", scene("RGBA"))
    save("grey.bmp", scene("L"))
    save("palette.bmp", rgb.quantize(40))
    save("grey_1bit.bmp", scene("1"))
    bmps()

    for orientation in range(1, 9):
        options = {"quality": 90, "subsampling": "4:4:4", "exif": exif(orientation)}
        save(f"orientation_{orientation}.jpg", rgb, **options)
    save("orientation_6.png", rgb, exif=exif(6))
    tiff = exif(8).tobytes().removeprefix(EXIF_PREFIX)
    save("orientation_8.webp", rgb, lossless=True, exif=tiff)
    prefix_exif("orientation_8.webp", "orientation_8_prefixed.webp", tiff)

    for path in sorted(HERE.iterdir()):
        if path.suffix in (".png", ".jpg", ".webp", ".bmp") and path.stem not in ("photo", "bomb"):
            with Image.open(path) as image:
                expect(path.name, to_rgb(image))


def to_rgb(image):
    if image.mode == "I;16":  # convert() would saturate, unlike for the other kinds of 16 bits
        image = Image.frombytes("L", image.size, image.tobytes()[1::2])
    if "transparency" in image.info:  # convert("RGB") alone gives the same, and a warning
        image = image.convert("RGBA")
    return ImageOps.exif_transpose(image).convert("RGB")


def expect(name, image):
    (HERE / "pixels").mkdir(exist_ok=True)
    (HERE / "pixels" / f"{name}.rgb").write_bytes(image.tobytes())


def fits():
    photo = noise(61, 40)
    save("photo.png", photo)

    def fit(name, part, size, canvas=None, at=(0, 0)):
        fitted = photo.crop(part).resize(size, Image.Resampling.BILINEAR)
        if canvas:
            bars = Image.new("RGB", canvas)
            bars.paste(fitted, at)
            fitted = bars
        expect(f"fit_{name}", fitted)

    whole = (0, 0, 61, 40)
    fit("stretch_24x24", whole, (24, 24))
    fit("stretch_100x90", whole, (100, 90))
    fit("stretch_24x90", whole, (24, 90))
    fit("stretch_1x1", whole, (1, 1))
    fit("letterbox_24x24", whole, (24, 16), (24, 24), (0, 4))
    fit("letterbox_20x40", whole, (20, 13), (20, 40), (0, 13))
    fit("letterbox_90x24", whole, (37, 24), (90, 24), (26, 0))
    fit("letterbox_200x100", whole, (153, 100), (200, 100), (23, 0))
    fit("letterbox_30x20", whole, (30, 20))
    fit("crop_24x24", (10, 0, 50, 40), (24, 24))
    fit("crop_7x31", (26, 0, 35, 40), (7, 31))
    fit("crop_50x10", (0, 14, 61, 26), (50, 10))
    fit("crop_61x40", whole, (61, 40))
    fit("box_crop_12x12", (10, 3, 30, 23), (12, 12))
    fit("box_crop_24x24", (5, 3, 29, 27), (24, 24))
    fit("box_stretch_5x5", (60, 39, 61, 40), (5, 5))


def bombs():
    (HERE / "bomb.png").write_bytes(png(100_000, 100_000, 8, 2, b"\0" * 100))


def luma():
    (HERE / "pixels" / "photo.png.luma").write_bytes(noise(61, 40).convert("L").tobytes())


if __name__ == "__main__":
    images()
    fits()
    luma()
    bombs()
