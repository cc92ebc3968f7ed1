//! `predict` where there are faces to find: pictures, videos, boxes, and the forms of the results.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use awsnet::image::{self, Limits};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::call;
use crate::harness::{Call, MODEL, awsnet, keys};

fn group() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/group.png")
}

/// As `--box` and `--boxes` have it.
fn boxed(line: &Value) -> [f64; 4] {
    [0, 1, 2, 3].map(|i| line["face"]["box"][i].as_f64().expect("a number"))
}

#[test]
fn every_face_of_a_picture_is_a_result_of_its_own() {
    let call = call!("predict", &*MODEL, "--detect", group(), "--json", "--device", "cpu");
    let lines = call.json();
    assert_eq!(lines.len(), 9);
    for (id, line) in lines.iter().enumerate() {
        assert_eq!(keys(line), ["au", "emotion", "face", "image", "schema"]);
        assert_eq!((&line["schema"], &line["face"]["id"]), (&json!(1), &json!(id)));
        assert_eq!(keys(&line["face"]), ["box", "id", "points", "score"]);
        let points = ["left_ear", "left_eye", "mouth", "nose", "right_ear", "right_eye"];
        assert_eq!(keys(&line["face"]["points"]), points);
        assert!(line["face"]["score"].as_f64().is_some_and(|score| (0.6..=1.0).contains(&score)));
    }
    assert!(lines.iter().map(|line| boxed(line)[0]).is_sorted(), "from left to right");
    assert!(call.stderr.contains("does not say how faces are cut out"), "{}", call.stderr);

    // The same for people, and with another file's detector, which is that of the program.
    let text = call!("predict", &*MODEL, "--detect", group(), "--device", "cpu").stdout;
    assert_eq!(text.lines().count(), 9, "{text}");
    let detector = concat!(env!("CARGO_MANIFEST_DIR"), "/models/face-detector.safetensors");
    let by_file = call!("predict", &*MODEL, format!("--detect={detector}"), group(), "--device", "cpu");
    assert_eq!(by_file.stdout, text);
    let sure =
        call!("predict", &*MODEL, "--detect", "--min-score", "0.89", group(), "--json", "--device", "cpu");
    let large =
        call!("predict", &*MODEL, "--detect", "--min-face", "60", group(), "--json", "--device", "cpu");
    assert!((1..9).contains(&sure.json().len()), "{}", sure.stdout);
    assert!((1..9).contains(&large.json().len()), "{}", large.stdout);
}

#[test]
fn a_head_with_the_name_of_another_key_is_refused_where_there_are_both() {
    let model = "tests/golden/one_branch.model.safetensors";
    let call = call!("predict", model, "--detect", "--json", group(), "--device", "cpu");
    assert!(call.fails(2).contains("`face`"), "{}", call.stderr);
    assert_eq!(call!("predict", model, "--detect", "--csv", group(), "--device", "cpu").lines().len(), 10);
    let whole = call!("predict", model, "--json", group(), "--box", "0,0,90,90", "--device", "cpu").json();
    assert_eq!(keys(&whole[0]), ["face", "image", "schema"]);
}

#[test]
fn a_picture_without_a_face_says_so() {
    let folder = tempdir().expect("a folder");
    let ground = folder.path().join("ground.png");
    png(&ground, 64, 48, &[90; 64 * 48 * 3]);
    let lines = call!("predict", &*MODEL, "--detect", &ground, "--json", "--device", "cpu").json();
    assert_eq!(keys(&lines[0]), ["face", "image", "schema"]);
    assert_eq!((lines.len(), &lines[0]["face"]), (1, &Value::Null));
    let text = call!("predict", &*MODEL, "--detect", &ground, "--device", "cpu").stdout;
    assert!(text.trim_end().ends_with("no face"), "{text}");
}

#[test]
fn boxes_stand_for_a_detector() {
    let folder = tempdir().expect("a folder");
    let path = group();
    let path = path.to_str().expect("UTF-8");
    let detected = call!("predict", &*MODEL, "--detect", group(), "--json", "--device", "cpu").json();
    let row = |line: &Value| boxed(line).map(|v| v.to_string());
    let csv: String = detected.iter().map(|line| format!("{path},{}\n", row(line).join(","))).collect();
    let jsonl: String = detected
        .iter()
        .map(|line| {
            let [x, y, w, h] = boxed(line);
            format!("{}\n", json!({"image": "group.png", "x": x, "y": y, "w": w, "h": h, "by": "somebody"}))
        })
        .collect();
    for (name, text) in [("boxes.csv", format!("image,x,y,w,h\n{csv}")), ("boxes.jsonl", jsonl)] {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("a file");
        let listed = call!("predict", &*MODEL, "--boxes", &file, group(), "--json", "--device", "cpu").json();
        assert_eq!(listed.len(), 9, "{name}");
        // Boxes that cross no border are the detector's, and so are the results.
        for (listed, detected) in listed.iter().zip(&detected) {
            let [x, y, w, h] = boxed(detected);
            if x >= 0.0 && y >= 0.0 && x + w <= 480.0 && y + h <= 300.0 {
                assert_eq!(listed["emotion"], detected["emotion"], "{name}");
            }
        }
    }
    for (text, part) in [
        ("image,x,y,w\na,1,2,3\n", "line 2"),
        ("image,x,y,w,h\na,1,2,3,0\n", "line 2"),
        ("image,x,y,w,h\na,1,2,3,4\na,1,NaN,3,4\n", "line 3"),
        ("{\"image\": \"a\"}\n", "line 1"),
    ] {
        let file = folder.path().join("wrong");
        fs::write(&file, text).expect("a file");
        let error = call!("predict", &*MODEL, "--boxes", &file, group()).fails(1).to_owned();
        assert!(error.contains("wrong") && error.contains(part), "{text:?}: {error}");
    }
    let file = folder.path().join("outside.csv");
    fs::write(&file, format!("image,x,y,w,h\n{path},900,900,9,9\n")).expect("a file");
    let error = call!("predict", &*MODEL, "--boxes", &file, group(), "--device", "cpu").fails(1).to_owned();
    assert!(error.contains("outside.csv") && error.contains("480x300"), "{error}");
}

#[test]
fn rows_have_the_columns_that_scripts_read() {
    let folder = tempdir().expect("a folder");
    let ground = folder.path().join("a, \"ground\".png");
    png(&ground, 64, 48, &[90; 64 * 48 * 3]);
    let call = call!("predict", &*MODEL, "--detect", "--csv", group(), &ground, "--device", "cpu");
    let lines = call.lines();
    let columns: Vec<&str> = lines[0].split(',').collect();
    let begin = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore", "AU01", "AU02"];
    assert_eq!(columns[..7], begin);
    assert_eq!(columns[columns.len() - 2..], ["input", "frame"]);
    for label in ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"] {
        assert_eq!(columns.iter().filter(|column| **column == label).count(), 1, "{label}");
    }
    assert_eq!(lines.len(), 1 + 9 + 1);
    for row in &lines[1..10] {
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!(fields.len(), columns.len());
        assert!(fields[..fields.len() - 2].iter().all(|field| field.parse::<f32>().is_ok()), "{row}");
    }
    // A picture without a face has a row without numbers.
    let expected = format!(
        "{}\"{}\",0",
        ",".repeat(columns.len() - 2),
        ground.display().to_string().replace('"', "\"\"")
    );
    assert_eq!(lines[10], expected);

    let call = call!("predict", &*MODEL, "--detect", "--csv=openface", group(), &ground, "--device", "cpu");
    let lines = call.lines();
    assert!(
        lines[0].starts_with("frame, face_id, timestamp, confidence, success, AU01_c, AU02_c"),
        "{}",
        lines[0]
    );
    assert!(!lines[0].contains("_r"));
    assert!(
        lines[1].starts_with("1, 0, 0, 0.") && lines[10].starts_with("1, 0, 0, 0, 0, 0"),
        "{}",
        call.stdout
    );
}

#[test]
fn drawings_are_pictures_of_their_own_that_replace_no_input() {
    let folder = tempdir().expect("a folder");
    let (sub, input) = (folder.path().join("sub"), folder.path().join("group.png"));
    fs::create_dir(&sub).expect("a folder");
    fs::copy(group(), &input).expect("a copy");
    fs::copy(group(), sub.join("group.png")).expect("a copy");
    let before = fs::read(&input).expect("the input");
    let call =
        call!("predict", &*MODEL, "--detect", folder.path(), "--draw", folder.path(), "--device", "cpu");
    assert_eq!(call.lines().len(), 18);
    assert_eq!(fs::read(&input).expect("the input"), before);
    assert_eq!(crate::harness::names(folder.path()), ["group-2.png", "group-3.png", "group.png", "sub"]);
    let drawn = ["group-2.png", "group-3.png"]
        .map(|name| image::open(folder.path().join(name), &Limits::default()).expect("a picture"));
    // Enlarged until its text can be read, and the same for the same picture.
    assert_eq!((drawn[0].width(), drawn[0].height()), (960, 600));
    assert_eq!(drawn[0], drawn[1]);
    let original = image::open(&input, &Limits::default()).expect("a picture");
    let at = |picture: &image::Picture, x: u32, y: u32| {
        let at = 3 * (y * picture.width() + x) as usize;
        [0, 1, 2].map(|c| picture.pixels()[at + c])
    };
    // The frame of the face that begins about 134, 14, and the ground at a place where there is nothing.
    let line = (265..=271).any(|x| at(&drawn[0], x, 100) == [255, 220, 0]);
    assert!(line, "no frame around the face");
    assert_eq!(at(&drawn[0], 2, 2), at(&original, 1, 1));

    let stream = y4m("W64 H48 F25:1 Cmono", &[vec![128; 64 * 48], vec![128; 64 * 48]]);
    let frames = tempdir().expect("a folder");
    piped(&stream, &["--draw", frames.path().to_str().expect("UTF-8")]).lines();
    assert_eq!(crate::harness::names(frames.path()), ["frame-000000.png", "frame-000001.png"]);
}

/// Y4M of these frames, each a picture's luma.
fn y4m(header: &str, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 {header}\n").into_bytes();
    for frame in frames {
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// What the command says of a stream on its standard input.
fn piped(bytes: &[u8], arguments: &[&str]) -> Call {
    use std::io::Write;
    let mut child = awsnet(["predict"])
        .arg(&*MODEL)
        .args(["--detect", "--device", "cpu", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end before it has read everything.
    let _ = stdin.write_all(bytes);
    drop(stdin);
    Call::of(child.wait_with_output().expect("an end"))
}

#[test]
fn a_stream_of_frames_has_times_and_faces_that_keep_their_numbers() {
    let picture = image::open(group(), &Limits::default()).expect("a picture");
    let luma: Vec<u8> =
        picture.pixels().chunks(3).map(|p| 16 + (u16::from(p[1]) * 219 / 255) as u8).collect();
    // The picture, then shifted to the left a little more each time: every face moves, none appears.
    let frame = |shift: usize| -> Vec<u8> {
        luma.chunks(480).flat_map(|row| row[shift..].iter().chain(&row[..shift]).copied()).collect()
    };
    let shifts = [0, 2, 4, 6];
    for (colour, chroma) in
        [("Cmono", 0), ("C420jpeg", 480 * 300 / 2), ("C422", 480 * 300), ("C444", 480 * 300 * 2)]
    {
        let frames: Vec<Vec<u8>> = shifts.iter().map(|&s| [frame(s), vec![128; chroma]].concat()).collect();
        let stream = y4m(&format!("W480 H300 F25:2 Ip A1:1 {colour}"), &frames);
        let lines = piped(&stream, &["--json"]).json();
        for (number, lines) in lines.chunk_by(|a, b| a["frame"] == b["frame"]).enumerate() {
            assert_eq!(lines[0]["frame"], json!(number), "{colour}");
            assert_eq!(lines[0]["time"], json!(number as f64 * 0.08), "{colour}");
            let mut ids: Vec<u64> =
                lines.iter().map(|line| line["face"]["id"].as_u64().expect("a number")).collect();
            ids.sort_unstable();
            assert!(ids.len() >= 6 && ids.iter().all(|id| *id < 10), "{colour}, frame {number}: {ids:?}");
        }
        assert_eq!(lines.last().expect("a line")["frame"], json!(3));
    }
    let frames: Vec<Vec<u8>> = shifts.iter().map(|&s| frame(s)).collect();
    let stream = y4m("W480 H300 F10:1 Cmono", &frames);
    for (arguments, expected) in [
        (&["--every", "3"][..], &[0, 3][..]),
        (&["--start", "0.15"], &[2, 3]),
        (&["--end", "0.2"], &[0, 1]),
        (&["--start", "0.1", "--end", "0.3", "--every", "2"], &[2]),
    ] {
        let lines = piped(&stream, &[arguments, &["--json"]].concat()).json();
        let mut numbers: Vec<u64> =
            lines.iter().map(|line| line["frame"].as_u64().expect("a number")).collect();
        numbers.dedup();
        assert_eq!(numbers, expected, "{arguments:?}");
    }
    // PPM has no times.
    let ppm = [b"P6\n# a comment\n480 300\n255\n".as_slice(), picture.pixels()].concat();
    let lines = piped(&[&*ppm, &*ppm].concat(), &["--json"]).json();
    assert_eq!(lines.len() % 2, 0);
    assert_eq!(keys(&lines[0]), ["au", "emotion", "face", "frame", "image", "schema"]);
}

/// The tiny model, whose file says so of how faces are cut out.
fn with_face(folder: &std::path::Path, face: &Value) -> PathBuf {
    let bytes = fs::read("tests/golden/everything_2.model.safetensors").expect("a model");
    let len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).expect("a header");
    let text = header["__metadata__"]["awsnet"].as_str().expect("a manifest");
    let mut manifest: Value = serde_json::from_str(text).expect("a manifest");
    manifest["input"]["face"] = face.clone();
    header["__metadata__"]["awsnet"] = manifest.to_string().into();
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let path = folder.join("points.safetensors");
    let file = [&(header.len() as u64).to_le_bytes(), &*header, &bytes[8 + len..]].concat();
    fs::write(&path, file).expect("a file");
    path
}

/// The most memory, in KiB, that the command has had after so many frames of 1280 x 960.
#[cfg(target_os = "linux")]
fn peak_of_stream(count: usize) -> u64 {
    use std::io::{BufRead, BufReader, Write};
    let mut child = awsnet(["predict"])
        .arg(&*MODEL)
        .args(["--detect", "--device", "cpu", "--threads", "2", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || {
        stdin.write_all(b"YUV4MPEG2 W1280 H960 F25:1 Cmono\n").expect("a header");
        let frame = [&b"FRAME\n"[..], &vec![128; 1280 * 960]].concat();
        (0..count).for_each(|_| stdin.write_all(&frame).expect("a frame"));
        stdin // open: the command waits for more
    });
    // What is done with a frame is said before the next comes: whoever watches a camera does not wait for it.
    let lines = BufReader::new(child.stdout.as_mut().expect("a pipe")).lines().take(count);
    for (number, line) in lines.enumerate() {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        assert_eq!((&line["frame"], &line["face"]), (&json!(number), &Value::Null));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    drop(writer.join().expect("a writer"));
    assert!(child.wait().expect("an end").success());
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_length_of_a_video() {
    let (short, long) = (peak_of_stream(10), peak_of_stream(70));
    // The frames alone would be 70 MiB more.
    assert!(long < short + 20 * 1024, "{short} KiB after 10 frames, {long} after 70");
}

#[test]
fn points_that_the_detector_does_not_find_are_told_before_the_first_face() {
    let folder = tempdir().expect("a folder");
    let eyes = json!({"left_eye": [3.0, 4.0], "right_eye": [8.0, 4.0], "mouth_left": [3.0, 9.0], "mouth_right": [8.0, 9.0]});
    let model = with_face(folder.path(), &json!({"points": eyes}));
    let call = call!("predict", &model, "--detect", group(), "--json", "--device", "cpu");
    assert_eq!(call.lines().len(), 9);
    assert!(call.stderr.contains("mouth_left and mouth_right"), "{}", call.stderr);
    let boxes = folder.path().join("boxes.csv");
    fs::write(&boxes, "image,x,y,w,h\n").expect("a file");
    let call = call!("predict", &model, "--boxes", &boxes, group(), "--device", "cpu");
    assert!(call.fails(2).contains("cuts faces out by points"), "{}", call.stderr);

    let mouth = json!({"mouth_left": [3.0, 9.0], "nose": [5.0, 6.0], "mouth_right": [8.0, 9.0]});
    let model = with_face(folder.path(), &json!({"points": mouth}));
    let call = call!("predict", &model, "--detect", group(), "--device", "cpu");
    let error = call.fails(1);
    assert!(error.contains("two points apart that the detector knows") && call.stdout.is_empty(), "{error}");
}

#[test]
fn scores_are_smoothed_by_face_over_the_frames() {
    let picture = image::open(group(), &Limits::default()).expect("a picture");
    let luma: Vec<u8> =
        picture.pixels().chunks(3).map(|p| 16 + (u16::from(p[1]) * 219 / 255) as u8).collect();
    // Brighter, darker, as it is: faces stay where they are, scores do not.
    let lit = |add: i16| luma.iter().map(|&v| (i16::from(v) + add).clamp(16, 235) as u8).collect::<Vec<_>>();
    let stream = y4m("W480 H300 F25:1 Cmono", &[lit(0), lit(30), lit(-30), lit(15)]);
    let plain = piped(&stream, &["--json"]).json();
    let smooth = piped(&stream, &["--json", "--smooth", "0.25"]).json();
    let whole = piped(&stream, &["--json", "--smooth", "1"]).json();
    assert_eq!((smooth.len(), whole.len()), (plain.len(), plain.len()));
    let mut state: std::collections::HashMap<u64, Vec<f64>> = std::collections::HashMap::new();
    let mut moved = 0;
    for ((plain, smooth), whole) in plain.iter().zip(&smooth).zip(&whole) {
        assert_eq!((&smooth["face"], &smooth["smooth"]), (&plain["face"], &json!(0.25)));
        assert!(plain.get("smooth").is_none());
        let scores = |line: &Value| -> Vec<f64> {
            let of = |head: &str| line[head]["scores"].as_object().expect("scores").clone();
            of("emotion").values().chain(of("au").values()).map(|v| v.as_f64().expect("a number")).collect()
        };
        let now = scores(plain);
        let id = plain["face"]["id"].as_u64().expect("a number");
        let state = state.entry(id).or_insert_with(|| now.clone());
        for (s, p) in state.iter_mut().zip(&now) {
            *s += 0.25 * (p - *s);
        }
        for ((s, found), p) in state.iter().zip(scores(smooth)).zip(&now) {
            assert!((s - found).abs() < 1e-5, "face {id}: {found}, not {s}");
            moved += usize::from((s - p).abs() > 1e-4);
        }
        assert!(scores(whole).iter().zip(&now).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    assert!(state.len() >= 6 && moved > 20, "{} faces, {moved} scores", state.len());
    for factor in ["0", "-0.1", "1.5", "NaN", "much"] {
        let call = call!("predict", &*MODEL, "--detect", "-", format!("--smooth={factor}"));
        assert!(call.fails(2).contains("above 0, at most 1"), "{factor}");
    }
}

#[test]
fn a_stream_that_goes_wrong_is_an_error_behind_what_came_before() {
    let grey = vec![128; 64 * 48];
    let whole = y4m("W64 H48 F25:1 Cmono", &[grey.clone(), grey.clone()]);
    for (bytes, part, results) in [
        (b"".to_vec(), "found nothing", 0),
        (b"GIF89a".to_vec(), "image, found GIF", 0),
        (b"YUV4MPEG2 W64 H48 C420p10\n".to_vec(), "420p10", 0),
        (b"YUV4MPEG2 W64\n".to_vec(), "width and a height", 0),
        (b"YUV4MPEG2 W99999999 H99999999\nFRAME\n".to_vec(), "width and a height", 0),
        (b"YUV4MPEG2 W16384 H16384\nFRAME\nabc".to_vec(), "frame 0", 0),
        (b"YUV4MPEG2 W64 H48\n".to_vec(), "at least one frame", 0),
        (whole[..whole.len() - 1].to_vec(), "frame 1: expected 3072 bytes, found 3071", 1),
        ([&*whole, b"FROM\n"].concat(), "frame 2: expected a line that begins with FRAME", 2),
        (b"P6\n0 4\n255\n".to_vec(), "frame 0", 0),
        (b"P6\n4 4\n65535\n".to_vec(), "65535", 0),
    ] {
        let call = piped(&bytes, &["--json"]);
        let lines = call.fails_with_results(1);
        let error = lines[results]["error"].as_str().unwrap_or_else(|| panic!("{part}: {lines:?}"));
        let named = error.contains("standard input") || error.starts_with("-: "); // of frames, of a picture
        assert!(named && error.contains(part), "{error}");
        assert_eq!(lines.len(), results + 1, "{part}");
    }
}

#[test]
fn a_video_without_ffmpeg_or_detect_says_what_is_missing() {
    let folder = tempdir().expect("a folder");
    let video = folder.path().join("film.mp4");
    fs::write(&video, "no video").expect("a file");
    let error = call!("predict", &*MODEL, &video).fails(2).to_owned();
    assert!(error.contains("film.mp4") && error.contains("--detect"), "{error}");
    let mut command = awsnet(["predict"]);
    command.arg(&*MODEL).arg("--detect").arg(&video).args(["--device", "cpu"]).env("PATH", folder.path());
    let output = command.output().expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("ffmpeg") && error.contains("MODEL -"), "{error}");
    let call = call!("predict", &*MODEL, "--detect", &video, "--device", "cpu");
    assert_eq!(call.code, 1, "{}", call.stderr);
    assert!(call.stderr.contains("film.mp4"), "{}", call.stderr);
}

#[test]
fn a_photograph_taken_for_a_face_earns_one_warning() {
    let folder = tempdir().expect("a folder");
    let copy = folder.path().join("copy.png");
    fs::copy(group(), &copy).expect("a copy");
    let call = call!("predict", &*MODEL, group(), &copy, "--device", "cpu");
    let warnings = call.stderr.lines().filter(|line| line.contains("--detect")).count();
    assert_eq!((call.lines().len(), warnings), (2, 1), "{}", call.stderr);
}

#[test]
fn the_page_on_the_command_line_has_the_lines_that_it_writes() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).expect("the page");
    let examples: Vec<Value> = page
        .lines()
        .filter_map(|line| serde_json::from_str(line.trim()).ok())
        .filter(|line: &Value| line.get("image").is_some())
        .collect();
    let folder = tempdir().expect("a folder");
    let ground = folder.path().join("ground.png");
    png(&ground, 64, 48, &[90; 64 * 48 * 3]);
    let missing = folder.path().join("missing.jpg");
    let whole = call!("predict", &*MODEL, group(), "--json", "--device", "cpu").json();
    let detected =
        call!("predict", &*MODEL, "--detect", group(), &ground, &missing, "--json", "--device", "cpu");
    let detected = detected.fails_with_results(1);
    let frame = y4m("W64 H48 F25:1 Cmono", &[vec![128; 64 * 48]]);
    let frames = piped(&frame, &["--json"]).json();
    let picture = image::open(group(), &Limits::default()).expect("a picture");
    let ppm = [b"P6 480 300 255\n".as_slice(), picture.pixels()].concat();
    let mut smoothed = piped(&ppm, &["--json", "--smooth", "0.3"]).json();
    smoothed[0]["time"] = json!(0); // which PPM has not
    let written = [&whole[0], &detected[0], &detected[9], &detected[10], &frames[0], &smoothed[0]];
    assert_eq!(examples.len(), written.len(), "{examples:?}");
    for (example, written) in examples.iter().zip(written) {
        assert_eq!(keys(example), keys(written), "{example}");
        for key in ["face", "emotion", "au"] {
            if example[key].is_object() {
                assert_eq!(keys(&example[key]), keys(&written[key]), "{example}");
            }
        }
    }
}

/// Writes an RGB picture.
fn png(path: &std::path::Path, width: u32, height: u32, pixels: &[u8]) {
    let mut encoder = png::Encoder::new(fs::File::create(path).expect("a file"), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().expect("a header").write_image_data(pixels).expect("pixels");
}
