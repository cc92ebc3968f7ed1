//! examples/live.rs, on a stream of the pictures in examples.
#![cfg(all(feature = "face", feature = "image"))]

use std::io::Cursor;

use awsnet::Model;
use awsnet::image::{self, Limits};

#[allow(dead_code, reason = "its main")]
#[path = "../examples/live.rs"]
mod live;

/// The group as Y4M, grey, so many frames of it.
fn stream(count: usize) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/group.png");
    let picture = image::open(path, &Limits::default()).expect("a picture");
    let mut frame = b"FRAME\n".to_vec();
    frame.extend(picture.luma().map(|v| (16.0 + f32::from(v) * 219.0 / 255.0).round() as u8));
    frame.resize(6 + 480 * 300 * 3 / 2, 128);
    [&b"YUV4MPEG2 W480 H300 F25:1 C420jpeg\n"[..], &frame.repeat(count)].concat()
}

fn run(stream: Vec<u8>, drops: bool) -> (Vec<String>, Result<(), String>) {
    let model =
        Model::load(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo.safetensors")).expect("a model");
    let mut out = Vec::new();
    let outcome = live::run(model, Cursor::new(stream), drops, &mut out).map_err(|e| e.to_string());
    let out = String::from_utf8(out).expect("text");
    (out.lines().map(str::to_owned).collect(), outcome)
}

/// What is said of the faces, behind the times.
fn faces(line: &str) -> Vec<&str> {
    line.split_once("to find)  ").expect("times").1.split(" | ").collect()
}

#[test]
fn every_frame_has_a_line_with_its_faces() {
    let (lines, outcome) = run(stream(3), false);
    outcome.expect("frames");
    assert_eq!(lines.len(), 3);
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("frame {number}  ")) && line.contains(" ms ("), "{line}");
        assert_eq!(faces(line), faces(&lines[0]), "one picture, one answer");
    }
    let labels = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"];
    assert!(faces(&lines[0]).len() > 6, "{lines:?}");
    assert!(faces(&lines[0]).iter().all(|face| labels.iter().any(|label| face.contains(label))), "{lines:?}");
}

#[test]
fn frames_that_come_too_fast_are_dropped_where_that_is_asked_for() {
    let (lines, outcome) = run(stream(30), true);
    outcome.expect("frames");
    assert!((1..30).contains(&lines.len()) && lines[0].starts_with("frame 0  "), "{lines:?}");
}

#[test]
fn a_stream_that_is_none_or_ends_early_is_an_error_behind_what_came_before() {
    let whole = stream(2);
    for (stream, part, count) in [
        (Vec::new(), "expected Y4M", 0),
        (b"YUV4MPEG2 W480 H300 C422\n".to_vec(), "C422", 0),
        (b"YUV4MPEG2 W480 H0\n".to_vec(), "expected Y4M", 0),
        (whole[..whole.len() - 1].to_vec(), "frame 1: ", 1),
        ([&*whole, b"FORM\n"].concat(), "frame 2: expected FRAME", 2),
    ] {
        let (lines, outcome) = run(stream, false);
        let error = outcome.expect_err(part);
        assert!(error.contains(part) && lines.len() == count, "{error}: {lines:?}");
    }
}
