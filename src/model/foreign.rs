//! What a file is that is no model, and the way from there, by the bytes that it begins with.

/// How many bytes are looked at.
pub(crate) const START: usize = 64;

/// Bytes at a place, and what files are that have them there.
const KINDS: &[(usize, &[u8], &str)] = &[
    (0, b"PK\x03\x04", "a zip archive, as torch.save writes; docs/training.md is the way from PyTorch"),
    (0, b"\x80\x02", PICKLE),
    (0, b"\x80\x03", PICKLE),
    (0, b"\x80\x04", PICKLE),
    (0, b"\x80\x05", PICKLE),
    (0, b"version https://git-lfs", "a git-lfs pointer in place of the file; `git lfs pull` fetches it"),
    (0, b"\x89HDF\r\n", "an HDF5 file, as Keras writes; `awsnet import` reads what tf2onnx makes of it"),
    (4, b"TFL3", "a TensorFlow Lite file; `awsnet import` reads what tf2onnx makes of it"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89PNG\r\n", PICTURE),
    (0, b"\xff\xd8\xff", PICTURE),
    (0, b"GIF8", PICTURE),
    (8, b"WEBP", PICTURE),
    (4, b"ftyp", "a picture or a video; a model comes before it"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"%PDF", "a PDF file"),
    (0, b"\x7fELF", "a program"),
    (0, b"#!", "a script"),
];
const PICKLE: &str =
    "a pickle of Python's, as old files of PyTorch are; docs/training.md is the way from PyTorch";
const ONNX: &str = "an ONNX file, which `awsnet import` makes a model of";
const PICTURE: &str = "a picture; a model comes before it";

/// What a file is that begins so; `None` where it may be a model: a length, whose upper bytes are
/// zero, and then JSON.
pub(crate) fn kind(start: &[u8]) -> Option<&'static str> {
    if let [_, _, _, _, 0, 0, 0, 0, b'{', ..] = start {
        return None;
    }
    let trimmed = start.trim_ascii_start();
    if trimmed
        .get(..5)
        .is_some_and(|tag| tag.eq_ignore_ascii_case(b"<html") || tag.eq_ignore_ascii_case(b"<!doc"))
    {
        return Some("a web page, perhaps in place of a download");
    }
    if trimmed.first() == Some(&b'{') {
        return Some("JSON text");
    }
    // A message of protobuf whose first field is a small version number, and then text: ONNX's `ir_version`, `producer_name`.
    if let [0x08, 1..=32, 0x12 | 0x3a | 0x42, ..] = start {
        return Some(ONNX);
    }
    let known =
        KINDS.iter().find(|(place, bytes, _)| start.get(*place..).is_some_and(|at| at.starts_with(bytes)));
    known.map(|(_, _, kind)| *kind)
}
