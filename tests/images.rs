//! What `awsnet::image` promises, against the pixels that Pillow sees. `tests/images/make.py` makes the files.
#![cfg(feature = "image")]

use std::fs;
use std::path::{Path, PathBuf};

use awsnet::image::{self, FaceBox, Fit, Limits, Picture};
use awsnet::model::ChannelOrder;
use awsnet::{Error, ErrorKind};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn pillows_pixels(name: &str) -> Vec<u8> {
    bytes_of(&format!("pixels/{name}.rgb"))
}

fn open(name: &str) -> Picture {
    image::open(file(name), &Limits::default()).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Picture, Error> {
    image::decode(bytes, &Limits::default())
}

/// One line, of the kind, with every part in it.
fn assert_error(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn greatest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

// ---------------------------------------------------------------- every kind of file has the right pixels

/// The file, and how far a value may be from Pillow's.
///
/// JPEG leaves rounding to the decoder, and how colour planes of half the size are brought to full size.
#[rustfmt::skip]
const FILES: &[(&str, u8)] = &[
    ("rgb.png", 0), ("rgba.png", 0), ("rgb_16bit.png", 0), ("rgba_16bit.png", 0),
    ("grey.png", 0), ("grey_1bit.png", 0), ("grey_16bit.png", 0),
    ("grey_alpha.png", 0), ("grey_alpha_16bit.png", 0), ("grey_transparent.png", 0),
    ("palette.png", 0), ("palette_4bit.png", 0), ("palette_transparent.png", 0),
    ("interlaced.png", 0), ("animated.png", 0),
    ("rgb.bmp", 0), ("rgba.bmp", 0), ("grey.bmp", 0), ("grey_1bit.bmp", 0), ("palette.bmp", 0),
    ("rgb_top_down.bmp", 0), ("rgb_555.bmp", 0), ("rgb_565.bmp", 0), ("rgba_masks.bmp", 0),
    ("palette_rle8.bmp", 0), ("palette_rle4.bmp", 0), ("palette_oldest.bmp", 0),
    ("lossy.webp", 0), ("lossy_alpha.webp", 0),
    ("lossless.webp", 0), ("lossless_alpha.webp", 0), ("animated.webp", 0),
    ("rgb_444.jpg", 2), ("rgb_420.jpg", 3), ("rgb_progressive.jpg", 3), ("rgb_restart.jpg", 3),
    ("rgb_not_ycc.jpg", 1), ("grey.jpg", 1), ("cmyk.jpg", 1), ("ycck_444.jpg", 1), ("ycck_420.jpg", 5),
];

fn assert_pillows_pixels(name: &str, width: u32, height: u32, tolerance: u8) {
    let picture = open(name);
    assert_eq!((picture.width(), picture.height()), (width, height), "{name}");
    let difference = greatest_difference(picture.pixels(), &pillows_pixels(name));
    assert!(difference <= tolerance, "{name} is off by {difference}");
}

#[test]
fn every_kind_of_file_has_pillows_pixels() {
    for &(name, tolerance) in FILES {
        assert_pillows_pixels(name, 24, 16, tolerance);
    }
    assert_pillows_pixels("one_pixel.png", 1, 1, 0);
    assert_pillows_pixels("one_row.png", 1000, 1, 0);
}

#[test]
fn every_exif_orientation_is_turned_upright() {
    for orientation in 1..=4 {
        assert_pillows_pixels(&format!("orientation_{orientation}.jpg"), 24, 16, 2);
    }
    for orientation in 5..=8 {
        assert_pillows_pixels(&format!("orientation_{orientation}.jpg"), 16, 24, 2);
    }
    for name in ["orientation_6.png", "orientation_8.webp", "orientation_8_prefixed.webp"] {
        assert_pillows_pixels(name, 16, 24, 0);
    }
}

#[test]
fn of_two_exif_segments_the_first_counts() {
    let exif_of = |file: &[u8]| -> Vec<u8> {
        let at = file.windows(2).position(|marker| marker == [0xff, 0xe1]).unwrap();
        let len = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        file[at..at + 2 + len].to_vec()
    };
    let mut bytes = bytes_of("orientation_6.jpg");
    let end = bytes.windows(2).position(|marker| marker == [0xff, 0xdb]).unwrap(); // of the segments of programs
    bytes.splice(end..end, exif_of(&bytes_of("orientation_3.jpg")));
    assert_eq!(decode(&bytes).unwrap(), open("orientation_6.jpg"));
}

#[test]
fn the_content_tells_the_kind_and_the_name_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a_png.jpg");
    fs::copy(file("rgb.png"), &path).unwrap();
    assert_eq!(image::open(&path, &Limits::default()).unwrap(), open("rgb.png"));
}

// ------------------------------------------------------------------------------- bad files are error values

/// One small file for every decoder and way of decoding.
const FILES_TO_BREAK: [&str; 9] = [
    "rgb_420.jpg",
    "rgb_progressive.jpg",
    "ycck_420.jpg",
    "orientation_6.png",
    "lossy_alpha.webp",
    "orientation_8.webp",
    "palette.bmp",
    "palette_rle8.bmp",
    "rgb_565.bmp",
];

#[test]
fn a_file_cut_anywhere_is_an_error_or_has_all_its_pixels() {
    for name in FILES_TO_BREAK {
        let whole = bytes_of(name);
        let picture = decode(&whole).unwrap();
        for len in 0..whole.len() {
            match decode(&whole[..len]) {
                Ok(cut) => assert_eq!(cut, picture, "{name} cut to {len} bytes"),
                Err(error) => assert_error(&error, ErrorKind::Image, &[]),
            }
        }
        assert_error(
            &decode(&whole[..whole.len() / 2]).unwrap_err(),
            ErrorKind::Image,
            &["whole", "truncated"],
        );
    }
}

#[test]
fn a_jpeg_without_its_end_is_truncated_even_if_an_end_stands_in_a_segment() {
    let whole = bytes_of("rgb_420.jpg");
    let comment = [0xff, 0xfe, 0, 4, 0xff, 0xd9];
    let cut = [&whole[..2], &comment, &whole[2..whole.len() - 2]].concat();
    assert_error(&decode(&cut).unwrap_err(), ErrorKind::Image, &["whole JPEG", "truncated"]);
    let followed = [&whole[..], b"anything"].concat();
    assert_eq!(decode(&followed).unwrap(), decode(&whole).unwrap());
}

#[test]
fn a_file_with_any_byte_changed_neither_panics_nor_hangs() {
    let limits = Limits::new().max_pixels(100_000);
    for name in FILES_TO_BREAK {
        let mut bytes = bytes_of(name);
        for at in 0..bytes.len() {
            for change in [0xff, 0x80, 0x01] {
                bytes[at] ^= change;
                match image::decode(&bytes, &limits) {
                    Ok(picture) => assert!(picture.pixels().len() <= 300_000),
                    Err(error) => assert_error(&error, ErrorKind::Image, &[]),
                }
                bytes[at] ^= change;
            }
        }
    }
}

#[test]
fn what_is_no_image_says_what_it_is() {
    let expected = "expected a JPEG, PNG, WebP or BMP image";
    for (bytes, found) in [
        (&b""[..], "found an empty file"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "found GIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "found HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "found AVIF"),
        (b"x", "found bytes that begin with [78]"),
        (b"plain text, and more", "found bytes that begin with [70, 6c, 61, 69, 6e, 20, 74, 65]"),
    ] {
        assert_error(&decode(bytes).unwrap_err(), ErrorKind::Image, &[expected, found]);
    }
}

#[test]
fn kinds_of_jpeg_that_are_not_read_are_refused_by_name() {
    let whole = bytes_of("rgb_444.jpg");
    let frame = whole.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    for (at, byte, kind) in [
        (frame + 1, 0xc3, "lossless"),
        (frame + 1, 0xc5, "hierarchical"),
        (frame + 1, 0xc9, "arithmetic coding"),
        (frame + 1, 0xca, "arithmetic coding"),
        (frame + 4, 12, "12 bits a sample"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        let found = format!("found one of a kind that is not read ({kind})");
        assert_error(&decode(&bytes).unwrap_err(), ErrorKind::Image, &["whole JPEG", &found]);
    }
}

#[test]
fn an_error_names_the_file() {
    let error = image::open(file("make.py"), &Limits::default()).unwrap_err();
    assert_error(&error, ErrorKind::Image, &["tests/images/make.py: expected a JPEG"]);
    let error = image::open("no such file.png", &Limits::default()).unwrap_err();
    assert_error(&error, ErrorKind::File, &["no such file.png: expected a readable file"]);
}

#[test]
fn only_regular_files_are_opened() {
    let error = image::open(file("."), &Limits::default()).unwrap_err();
    assert_error(&error, ErrorKind::File, &["expected a regular file, found a directory"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_nobody_writes_to_and_an_endless_device_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        let error = image::open(path, &Limits::default()).unwrap_err();
        assert_error(&error, ErrorKind::File, &["expected a regular file, found a device, pipe or socket"]);
    }
}

// ------------------------------------------------------------------------------------------------- limits

#[test]
fn a_file_may_be_as_long_as_the_limit() {
    let bytes = bytes_of("rgb.png");
    let len = bytes.len() as u64;
    let enough = Limits::new().max_bytes(len);
    assert!(image::decode(&bytes, &enough).is_ok() && image::open(file("rgb.png"), &enough).is_ok());

    let short = Limits::new().max_bytes(len - 1);
    let parts = [&*format!("expected an image file of at most {} bytes, found {len} bytes", len - 1)];
    assert_error(&image::decode(&bytes, &short).unwrap_err(), ErrorKind::Image, &parts);
    assert_error(&image::open(file("rgb.png"), &short).unwrap_err(), ErrorKind::Image, &parts);
}

#[test]
fn a_picture_may_be_as_large_as_the_limit() {
    for (name, _) in FILES {
        let enough = Limits::new().max_pixels(24 * 16);
        assert!(image::open(file(name), &enough).is_ok(), "{name}");

        let short = Limits::new().max_pixels(24 * 16 - 1);
        let error = image::open(file(name), &short).unwrap_err();
        assert_error(&error, ErrorKind::Image, &["expected an image of at most 383 pixels, found 24x16"]);
    }
}

#[test]
fn the_largest_limits_do_not_overflow() {
    let limits = Limits::new().max_bytes(u64::MAX).max_pixels(u64::MAX);
    assert_eq!(image::open(file("rgb.png"), &limits).unwrap(), open("rgb.png"));
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let error = image::open(file("bomb.png"), &Limits::default()).unwrap_err();
    assert_error(
        &error,
        ErrorKind::Image,
        &["at most 100000000 pixels", "100000x100000, 10000000000 pixels"],
    );

    let mut bmp = bytes_of("rgb.bmp");
    bmp[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
    assert_error(&decode(&bmp).unwrap_err(), ErrorKind::Image, &["60000x60000, 3600000000 pixels"]);

    let mut jpeg = bytes_of("rgb_444.jpg");
    let start_of_frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[start_of_frame + 5..start_of_frame + 9].fill(0xff);
    assert_error(&decode(&jpeg).unwrap_err(), ErrorKind::Image, &["65535x65535, 4294836225 pixels"]);
}

#[test]
fn a_webp_chunk_longer_than_its_file_is_refused() {
    let mut bytes = bytes_of("orientation_8.webp");
    let exif = bytes.windows(4).position(|name| name == b"EXIF").unwrap();
    bytes[exif + 4..exif + 8].fill(0xff);
    assert_error(&decode(&bytes).unwrap_err(), ErrorKind::Image, &["whole WebP", "truncated"]);
}

#[test]
fn an_image_without_pixels_is_an_error() {
    let mut bmp = bytes_of("rgb.bmp");
    bmp[18..22].fill(0);
    assert_error(&decode(&bmp).unwrap_err(), ErrorKind::Image, &["found"]);
}

// ------------------------------------------------------------------------------------ pictures from pixels

#[test]
fn a_picture_from_pixels_has_the_right_number_of_them() {
    let picture = Picture::from_rgb(2, 3, (0..18).collect()).unwrap();
    assert_eq!((picture.width(), picture.height()), (2, 3));
    assert_eq!(picture.pixels(), (0..18).collect::<Vec<u8>>());
    assert_eq!(picture.into_pixels(), (0..18).collect::<Vec<u8>>());

    for len in [0, 17, 19, 24] {
        let error = Picture::from_rgb(2, 3, vec![0; len]).unwrap_err();
        assert_error(&error, ErrorKind::Input, &["2 * 3 * 3 bytes", &format!("found {len} bytes")]);
    }
    for (width, height) in [(0, 0), (0, 5), (5, 0)] {
        let error = Picture::from_rgb(width, height, vec![]).unwrap_err();
        assert_error(&error, ErrorKind::Input, &["at least 1x1 pixel", &format!("found {width}x{height}")]);
    }
    assert!(Picture::from_rgb(u32::MAX, u32::MAX, vec![0; 3]).is_err()); // * 3 overflows 64 bits
}

// ------------------------------------------------------------------------------------------ boxes and fits

#[test]
fn every_fit_gives_pillows_pixels() {
    let photo = open("photo.png"); // 61x40
    let box_at = |x, y, width, height| Some(FaceBox { x, y, width, height });
    for (face, fit, width, height, name) in [
        (None, Fit::Stretch, 24, 24, "stretch_24x24"),
        (None, Fit::Stretch, 100, 90, "stretch_100x90"),
        (None, Fit::Stretch, 24, 90, "stretch_24x90"),
        (None, Fit::Stretch, 1, 1, "stretch_1x1"),
        (None, Fit::Letterbox, 24, 24, "letterbox_24x24"),
        (None, Fit::Letterbox, 20, 40, "letterbox_20x40"),
        (None, Fit::Letterbox, 90, 24, "letterbox_90x24"),
        (None, Fit::Letterbox, 200, 100, "letterbox_200x100"),
        (None, Fit::Letterbox, 30, 20, "letterbox_30x20"),
        (None, Fit::Crop, 24, 24, "crop_24x24"),
        (None, Fit::Crop, 7, 31, "crop_7x31"),
        (None, Fit::Crop, 50, 10, "crop_50x10"),
        (None, Fit::Crop, 61, 40, "crop_61x40"),
        (box_at(5, 3, 30, 20), Fit::Crop, 12, 12, "box_crop_12x12"),
        (box_at(5, 3, 24, 24), Fit::Crop, 24, 24, "box_crop_24x24"),
        (box_at(60, 39, 1, 1), Fit::Stretch, 5, 5, "box_stretch_5x5"),
    ] {
        let fitted = image::prepare(&photo, face, fit, width, height).unwrap();
        assert_eq!((fitted.width(), fitted.height()), (width, height), "{name}");
        assert!(fitted.pixels() == pillows_pixels(&format!("fit_{name}")), "{name} differs");
    }
}

#[test]
fn a_picture_of_the_target_size_keeps_its_pixels() {
    let photo = open("photo.png");
    for &fit in Fit::ALL {
        assert_eq!(image::prepare(&photo, None, fit, 61, 40).unwrap(), photo, "{fit}");
    }
}

#[test]
fn one_colour_stays_one_colour_at_any_size_and_ratio() {
    let shapes = [(1, 1), (2, 3), (17, 5), (1, 10_000), (10_000, 1), (640, 480)];
    for (width, height) in shapes {
        let plain = Picture::from_rgb(width, height, vec![201; 3 * (width * height) as usize]).unwrap();
        for (to_width, to_height) in [(1, 1), (112, 112), (1, 300), (300, 1), (7, 5)] {
            for fit in [Fit::Stretch, Fit::Crop] {
                let fitted = image::prepare(&plain, None, fit, to_width, to_height).unwrap();
                assert!(fitted.pixels().iter().all(|&value| value == 201), "{fit} {plain:?} {fitted:?}");
            }
            let fitted = image::prepare(&plain, None, Fit::Letterbox, to_width, to_height).unwrap();
            let mut bars_and_colour = fitted.pixels().to_vec();
            bars_and_colour.sort();
            bars_and_colour.dedup();
            assert!(matches!(bars_and_colour[..], [201] | [0, 201]), "{plain:?} {fitted:?}");
        }
    }
}

#[test]
fn a_box_must_hold_pixels_of_the_picture() {
    let photo = open("photo.png");
    let prepare = |text: &str| image::prepare(&photo, Some(text.parse().unwrap()), Fit::Crop, 8, 8);
    for inside in ["0,0,61,40", "60,0,1,40", "0,39,61,1"] {
        assert!(prepare(inside).is_ok(), "{inside}");
    }
    for empty in ["0,0,0,40", "0,0,61,0", "61,40,0,0"] {
        let error = prepare(empty).unwrap_err();
        assert_error(&error, ErrorKind::Image, &[&format!("box {empty}: expected at least 1x1 pixel")]);
    }
    for outside in ["0,0,62,40", "0,0,61,41", "61,0,1,1", "0,40,1,1", "4294967295,0,4294967295,1"] {
        let error = prepare(outside).unwrap_err();
        assert_error(&error, ErrorKind::Image, &[&format!("box {outside}: "), "inside the picture, 61x40"]);
    }
}

#[test]
fn a_target_must_have_pixels_and_fit_in_memory() {
    let photo = open("photo.png");
    for &fit in Fit::ALL {
        for (width, height) in [(0, 0), (0, 8), (8, 0)] {
            let error = image::prepare(&photo, None, fit, width, height).unwrap_err();
            assert_error(&error, ErrorKind::Input, &["target size", &format!("{width}x{height}")]);
        }
        for side in [1 << 31, u32::MAX] {
            let error = image::prepare(&photo, None, fit, side, side).unwrap_err();
            assert_error(&error, ErrorKind::Memory, &["memory"]);
        }
    }
}

#[test]
fn fits_and_boxes_are_read_as_they_are_written() {
    assert_eq!(Fit::default(), Fit::Crop);
    for &fit in Fit::ALL {
        assert_eq!(fit.to_string().parse::<Fit>().unwrap(), fit);
    }
    for wrong in ["", "Crop", "crop ", "fill"] {
        let error = wrong.parse::<Fit>().unwrap_err();
        assert_error(&error, ErrorKind::Input, &["stretch, letterbox, crop", &format!("`{wrong}`")]);
    }

    let face = FaceBox { x: 1, y: 2, width: 3, height: 4 };
    assert_eq!(face.to_string(), "1,2,3,4");
    assert_eq!("1,2,3,4".parse::<FaceBox>().unwrap(), face);
    for wrong in ["", "1,2,3", "1,2,3,4,5", "1,2,3,-4", "1,2,3,4.5", "1;2;3;4", "1,2,3,4294967296"] {
        let error = wrong.parse::<FaceBox>().unwrap_err();
        assert_error(&error, ErrorKind::Input, &["`x,y,width,height`", &format!("`{wrong}`")]);
    }
}

// ------------------------------------------------------------------------------------------------- floats

#[test]
fn three_channels_become_three_normalised_planes() {
    let photo = open("photo.png");
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let mut planes = vec![f32::NAN; 3 * 61 * 40];
    image::normalise(&photo, &mean, &std, ChannelOrder::Rgb, &mut planes).unwrap();
    for (i, pixel) in photo.pixels().chunks_exact(3).enumerate() {
        for c in 0..3 {
            let expected = (f32::from(pixel[c]) / 255.0 - mean[c]) / std[c];
            assert_eq!(planes[c * 61 * 40 + i], expected, "pixel {i}, channel {c}");
        }
    }
}

#[test]
fn one_channel_is_pillows_luma() {
    let photo = open("photo.png");
    let mut luma = vec![f32::NAN; 61 * 40];
    image::normalise(&photo, &[0.0], &[1.0], ChannelOrder::Rgb, &mut luma).unwrap();
    let expected: Vec<f32> =
        bytes_of("pixels/photo.png.luma").iter().map(|&l| f32::from(l) / 255.0).collect();
    assert_eq!(luma, expected);
}

#[test]
fn wrong_arguments_of_normalise_leave_the_output_alone() {
    let picture = Picture::from_rgb(2, 2, vec![9; 12]).unwrap();
    let cases: [(&[f32], &[f32], usize, &str); 9] = [
        (&[], &[], 0, "mean: expected 1 or 3 values, found 0"),
        (&[0.0; 2], &[1.0; 2], 8, "mean: expected 1 or 3 values, found 2"),
        (&[0.0; 3], &[1.0; 1], 12, "std: expected 3 values, as in mean, found 1"),
        (&[f32::NAN], &[1.0], 4, "mean: expected finite values, found NaN"),
        (&[0.0], &[0.0], 4, "std: expected finite values above 0, found 0"),
        (&[0.0], &[f32::INFINITY], 4, "std: expected finite values above 0, found inf"),
        (&[0.0; 3], &[1.0; 3], 11, "expected room for 3x2x2 values, found 11"),
        (&[0.0; 3], &[1.0; 3], 13, "expected room for 3x2x2 values, found 13"),
        (&[0.0; 1], &[1.0; 1], 12, "expected room for 1x2x2 values, found 12"),
    ];
    for (mean, std, len, text) in cases {
        let mut out = vec![7.0; len];
        let error = image::normalise(&picture, mean, std, ChannelOrder::Rgb, &mut out).unwrap_err();
        assert_error(&error, ErrorKind::Input, &[text]);
        assert!(out.iter().all(|&value| value == 7.0), "{text}");
    }
}
