//! Every fault a model file can have is an error that names the layer or tensor, what was expected and what was
//! found; nothing in a file makes the library panic, hang or allocate without measure.
//!
//! A valid file with every feature is taken apart, broken in one place and put together again.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use awsnet::reference;
use awsnet::{Branch, Engine, EngineOptions, Error, ErrorKind, Isa, Model, Plan, PlanOptions, Target};
use common::{ModelFile, Network, Numbers, Rng, StoredTensor, container};
use serde_json::{Map, Value, json};

/// The longest message: it is one line in a terminal or a log.
const MOST_CHARS: usize = 600;

/// A small network with every feature.
fn valid() -> ModelFile {
    let mut network = Network::new(2, Numbers::Real, [3, 6, 5]);
    let layers = [
        json!({"name": "stem", "op": "conv2d", "kernel": 3, "stride": [2, 1], "padding": [1, 1, 0, 1],
               "batch_norm": "bn", "batch_norm_eps": 0.001, "activation": "relu", "aws": "channel"}),
        json!({"name": "pool", "op": "max_pool2d", "kernel": 2, "stride": 1, "padding": [1, 1, 0, 0]}),
        json!({"name": "mix", "op": "conv2d", "kernel": 1, "residual": "stem", "aws": "dense"}),
        json!({"name": "grouped", "op": "conv2d", "kernel": [3, 1], "dilation": [2, 1], "padding": [2, 0], "groups": 2,
               "activation": "leaky_relu", "negative_slope": 0.1, "aws": "gate", "gate": "sigmoid"}),
        json!({"name": "add", "op": "identity", "input": "grouped", "residual": "mix", "activation": "silu",
               "aws": "layer"}),
        json!({"name": "smaller", "op": "avg_pool2d", "kernel": [3, 2]}),
        json!({"name": "hidden", "op": "linear", "batch_norm": "hidden_bn", "activation": "none"}),
        json!({"name": "mean", "op": "global_avg_pool2d", "input": "add", "aws": "gate"}),
    ];
    for layer in layers {
        let out_channels = if layer["op"] == "linear" { 5 } else { 4 };
        network.layer(layer, out_channels);
    }
    let mut file = network.heads(("hidden", 3), ("mean", 2));
    file.manifest["name"] = json!("every feature");
    file.manifest["heads"]["emotion"]["tensor"] = json!("fc");
    for tensor in &mut file.tensors {
        tensor.convert("F32");
    }
    file.tensor("emotion.mix.weight").convert("F16");
    file.tensor("au.mix.weight").convert("F16");
    file.tensor("au.grouped.weight").convert("BF16");
    file.tensor("aws.mean.squeeze.weight").convert("BF16");
    file
}

/// The valid file with something changed.
fn broken(change: impl FnOnce(&mut ModelFile)) -> Vec<u8> {
    let mut file = valid();
    change(&mut file);
    file.bytes()
}

/// The valid file with the value at a JSON pointer of its manifest replaced, or a new key set.
fn manifest_with(pointer: &str, value: Value) -> Vec<u8> {
    broken(|file| set(&mut file.manifest, pointer, value))
}

/// The same for the header.
fn header_with(pointer: &str, value: Value) -> Vec<u8> {
    let file = valid();
    let mut header = file.header();
    set(&mut header, pointer, value);
    container(header.to_string().as_bytes(), &file.data())
}

fn set(json: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match json.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Array(elements) => elements[key.parse::<usize>().expect("an index")] = value,
        Value::Object(members) => drop(members.insert(key.into(), value)),
        other => panic!("{pointer} in {other}"),
    }
}

fn remove(json: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match json.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Array(elements) => drop(elements.remove(key.parse::<usize>().expect("an index"))),
        Value::Object(members) => drop(members.remove(key).unwrap_or_else(|| panic!("no {pointer}"))),
        other => panic!("{pointer} in {other}"),
    }
}

/// The valid file with a piece of its manifest's or header's text replaced, for what a JSON tree cannot hold.
fn text_with(in_manifest: bool, from: &str, to: &str) -> Vec<u8> {
    let file = valid();
    let mut header = file.header();
    if in_manifest {
        let text = file.manifest.to_string();
        assert!(text.contains(from), "no {from} in {text}");
        header["__metadata__"]["awsnet"] = json!(text.replacen(from, to, 1));
        return container(header.to_string().as_bytes(), &file.data());
    }
    let text = header.to_string();
    assert!(text.contains(from), "no {from} in {text}");
    container(text.replacen(from, to, 1).as_bytes(), &file.data())
}

/// Checks what holds for every error's message.
fn check_message(error: &Error, what: &str) {
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "{what}: control characters in {message:?}");
    assert!(message.chars().count() <= MOST_CHARS, "{what}: {} bytes: {message:.300}...", message.len());
    assert!(!error.expected().is_empty() && !error.found().is_empty(), "{what}: {message}");
    assert!(
        message.ends_with(&format!("expected {}, found {}", error.expected(), error.found())),
        "{what}: {message}"
    );
}

/// Loads a file that may be anything: either a model, or an error as errors should be.
fn survives(bytes: &[u8], what: &str) -> Option<Model> {
    Model::from_bytes(bytes).inspect_err(|error| check_message(error, what)).ok()
}

/// Plans and runs a model, unless its maps are too large for a test.
fn run(model: &Model, what: &str) {
    const MOST_ARENA_BYTES: u64 = 1 << 24;
    for target in [Target::default(), Target::Reference] {
        let plan = match Plan::build(model.clone(), &PlanOptions { target, ..PlanOptions::default() }) {
            Ok(plan) => plan,
            Err(error) => return check_message(&error, what),
        };
        let len = model.input().shape.len();
        if plan.arena_bytes() > MOST_ARENA_BYTES || len > 100_000 {
            return;
        }
        let engine =
            Engine::new(plan, &EngineOptions { threads: 1, ..EngineOptions::default() }).expect("an engine");
        engine.session().expect("a session").run(&vec![0.5; len]).expect("a run");
    }
}

struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    /// What place, expected and found must contain.
    place: &'static str,
    expected: &'static str,
    found: &'static str,
}

fn case(
    what: &'static str,
    bytes: Vec<u8>,
    place: &'static str,
    expected: &'static str,
    found: &'static str,
) -> Case {
    Case { what, bytes, place, expected, found }
}

/// Checks all cases, then fails with all that are wrong.
fn check(cases: Vec<Case>) {
    assert_eq!(valid().model().layers().len(), 8);
    let mut wrong = Vec::new();
    for Case { what, bytes, place, expected, found } in cases {
        let Err(error) = Model::from_bytes(&bytes) else {
            wrong.push(format!("{what}: loads"));
            continue;
        };
        check_message(&error, what);
        assert_eq!(error.kind(), ErrorKind::Model, "{what}: {error}");
        let about_the_file = place.is_empty();
        let right = error.place().is_empty() == about_the_file
            && error.place().contains(place)
            && error.expected().contains(expected)
            && error.found().contains(found);
        if !right {
            wrong.push(format!(
                "{what}: not at {place:?}, expected {expected:?}, found {found:?}, but {error}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// Faults 1 to 3, 6 to 13 and 15: the container.

#[test]
#[rustfmt::skip] // a table
fn faults_of_the_container() {
    let length = |n: u64| [&n.to_le_bytes()[..], b"{}"].concat();
    let entry = |dtype: &str, shape: Value, offsets: Value| json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
    let only = |entry: Value, data: &[u8]| container(json!({"t": entry}).to_string().as_bytes(), data);
    let mut swapped = valid().header();
    let first = swapped["emotion.stem.weight"]["data_offsets"].clone();
    swapped["emotion.stem.weight"]["data_offsets"] = swapped["au.stem.weight"]["data_offsets"].clone();
    let twice = container(swapped.to_string().as_bytes(), &valid().data());
    let begin = first[0].as_u64().expect("an offset");
    let end = first[1].as_u64().expect("an offset");
    let name_twice = format!("\"emotion.stem.weight\":{}", valid().header()["emotion.stem.weight"]);
    check(vec![
        case("empty", vec![], "", "safetensors", "0 bytes"),
        case("7 bytes", vec![0; 7], "", "8 bytes", "7 bytes"),
        case("no header", vec![0; 8], "header", "JSON", "EOF"),
        case("length 2^64-1", length(u64::MAX), "header", "at most 2 bytes", "18446744073709551615"),
        case("length over the file", length(3), "header", "at most 2 bytes", "3"),
        case("length over the cap", length(1 << 40), "header", "at most", "1099511627776"),
        case("bad UTF-8", container(b"{\"\xff\":1}", &[]), "header", "UTF-8", "column"),
        case("bad JSON", container(b"{", &[]), "header", "JSON", "EOF"),
        case("two JSON values", container(b"{}{}", &[]), "header", "JSON", "trailing"),
        case("an array", container(b"[]", &[]), "header", "object", "another"),
        case("a lone surrogate", container(b"{\"\\ud800\":1}", &[]), "header", "JSON", ""),
        case("deep arrays", container("[".repeat(100_000).as_bytes(), &[]), "header", "JSON", "recursion"),
        case("deep objects", container("{\"a\":".repeat(100_000).as_bytes(), &[]), "header", "JSON",
            "recursion"),
        case("no manifest", container(b"{}", &[]), "__metadata__", "awsnet", "no such key"),
        case("metadata null", header_with("/__metadata__", json!(null)), "__metadata__", "object", "null"),
        case("metadata of numbers", header_with("/__metadata__/format", json!(1)), "`format`", "string", "1"),
        case("manifest an object", header_with("/__metadata__/awsnet", json!({})), "`awsnet`", "string",
            "object"),
        case("trailing bytes", [valid().bytes(), vec![0]].concat(), "", "bytes of tensors", "bytes"),
        case("a byte short", valid().bytes().split_last().expect("bytes").1.to_vec(), "", "bytes of tensors",
            "bytes"),
        case("data without tensors", container(b"{}", &[0]), "", "0 bytes of tensors", "1 bytes"),
        case("a name twice", text_with(false, &name_twice, &format!("{name_twice},{name_twice}")), "header",
            "no key twice", "emotion.stem.weight"),
        case("metadata twice",
            text_with(false, "{\"__metadata__\":", "{\"__metadata__\":{},\"__metadata__\":"), "header",
            "no key twice", "__metadata__"),
        case("manifest twice", text_with(false, "\"awsnet\":", "\"awsnet\":\"{}\",\"awsnet\":"), "header",
            "no key twice", "awsnet"),
        case("dtype twice", text_with(false, "\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"dtype\":\"F32\""),
            "header", "no key twice", "dtype"),
        case("equal ranges", twice, "tensor `", "begin where the tensor before ends", "byte"),
        case("overlap", header_with("/emotion.stem.weight/data_offsets", json!([begin + 4, end + 4])),
            "tensor `", "begin where", "byte"),
        case("reversed offsets", header_with("/emotion.stem.weight/data_offsets", json!([end, begin])),
            "tensor `emotion.stem.weight`: `data_offsets`", "order", ""),
        case("a hole", only(entry("F32", json!([1]), json!([4, 8])), &[0; 8]), "tensor `t`", "byte 0",
            "byte 4"),
        case("behind the file", only(entry("F32", json!([1]), json!([0, 4])), &[]), "", "4 bytes", "0 bytes"),
        case("offsets 2^64-1", only(entry("F32", json!([0]), json!([u64::MAX, u64::MAX])), &[]), "tensor `t`",
            "byte 0", "18446744073709551615"),
        case("one offset", only(entry("F32", json!([0]), json!([0])), &[]), "data_offsets", "[begin, end]",
            "1 numbers"),
        case("negative offset", only(entry("F32", json!([0]), json!([-1, 0])), &[]), "data_offsets",
            "integer", "-1"),
        case("no offsets", only(json!({"dtype": "F32", "shape": [0]}), &[]), "data_offsets", "array",
            "missing"),
        case("no shape", only(json!({"dtype": "F32", "data_offsets": [0, 0]}), &[]), "shape", "array",
            "missing"),
        case("no dtype", only(json!({"shape": [0], "data_offsets": [0, 0]}), &[]), "dtype", "element type",
            "missing"),
        case("an unknown key",
            only(json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0], "x": 1}), &[]), "tensor `t`",
            "dtype, shape, data_offsets", "`x`"),
        case("the product overflows", only(entry("F32", json!([1u64 << 32, 1u64 << 32]), json!([0, 0])), &[]),
            "tensor `t`", "address space", "2 dimensions"),
        case("the bytes overflow", only(entry("F32", json!([1u64 << 62]), json!([0, 0])), &[]), "tensor `t`",
            "address space", ""),
        case(
            "[0, 2^64-1]",
            broken(|f| {
                f.tensors.push(StoredTensor {
                    name: "t".into(),
                    dtype: "F32".into(),
                    dims: vec![0, u64::MAX],
                    data: vec![],
                });
            }),
            "tensor `t`",
            "",
            "",
        ),
        case("too few bytes", only(entry("F32", json!([2]), json!([0, 4])), &[0; 4]), "tensor `t`", "8 bytes",
            "4"),
        case("2^64 as a dimension", only(entry("F32", json!([18446744073709551616.0]), json!([0, 0])), &[]),
            "`shape`", "integer", "1.8446744073709552e+19"),
        case("a negative dimension", only(entry("F32", json!([-1]), json!([0, 0])), &[]), "`shape`",
            "integer", "-1"),
        case("a fraction", only(entry("F32", json!([1.5]), json!([0, 0])), &[]), "`shape`", "integer", "1.5"),
        case("dtype F33", header_with("/emotion.stem.weight/dtype", json!("F33")),
            "tensor `emotion.stem.weight`: `dtype`", "element type", "F33"),
        case("dtype f32", header_with("/emotion.stem.weight/dtype", json!("f32")), "`dtype`", "element type",
            "f32"),
        case("dtype null", header_with("/emotion.stem.weight/dtype", json!(null)), "`dtype`", "element type",
            "null"),
    ]);
}

// Faults 4 and 5.

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = valid().bytes();
    for len in 0..bytes.len() {
        assert!(survives(&bytes[..len], &format!("cut at {len}")).is_none(), "cut at {len}: loads");
    }
}

#[test]
fn a_file_with_any_byte_flipped_loads_or_is_refused() {
    let bytes = valid().bytes();
    let mut loaded = 0;
    for mask in [0xff, 0x01, 0x10, 0x80] {
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= mask;
            let what = format!("byte {index} ^ {mask:#x}");
            if let Some(model) = survives(&flipped, &what) {
                loaded += 1;
                if loaded % 50 == 0 {
                    run(&model, &what);
                }
            }
        }
    }
    assert!(loaded > 1_000, "{loaded}: weights stay weights");
}

// Faults 14 to 21: tensors.

/// The tensors of the valid file whose elements are checked, one of each kind and type.
const KINDS: [&str; 14] = [
    "emotion.stem.weight",
    "emotion.mix.weight", // F16
    "au.grouped.weight",  // BF16
    "emotion.bn.weight",
    "au.bn.bias",
    "emotion.bn.running_mean",
    "au.bn.running_var",
    "aws.stem.weight",
    "aws.mix.weight",
    "aws.grouped.squeeze.bias",
    "aws.mean.squeeze.weight", // BF16
    "aws.mean.excite.weight",
    "emotion.hidden.weight",
    "au.fc.weight",
];

#[test]
#[rustfmt::skip] // a table
fn faults_of_the_tensors() {
    let zeros = |name: &str, dims: &[usize]| StoredTensor::f32(name, dims, &vec![0.0; dims.iter().product()]);
    let reshaped = |name: &str, dims: &[u64]| {
        broken(|f| {
            let tensor = f.tensor(name);
            tensor.dims = dims.to_vec();
            tensor.data =
                vec![0; (dims.iter().product::<u64>() * if tensor.dtype == "F32" { 4 } else { 2 }) as usize];
        })
    };
    let typed = |name: &str, dtype: &str, bytes: usize| {
        broken(|f| {
            let tensor = f.tensor(name);
            let len = tensor.values().len();
            tensor.dtype = dtype.into();
            tensor.data = vec![0; len * bytes];
        })
    };
    let values = |name: &str, change: fn(&mut Vec<f32>)| {
        broken(|f| {
            let tensor = f.tensor(name);
            let mut values = tensor.values();
            change(&mut values);
            let dtype = tensor.dtype.clone();
            tensor.set(&dtype, &values);
        })
    };
    let added = |name: &str| broken(|f| f.tensors.push(zeros(name, &[1])));
    let removed = |name: &str| broken(|f| f.tensors.retain(|tensor| tensor.name != name));
    let high_rank = [&[0][..], &[1; 9_999]].concat();
    check(vec![
        // 14: missing, extra, misshapen, mistyped.
        case("no weight in emotion", removed("emotion.stem.weight"), "tensor `emotion.stem.weight`",
            "[out, 3, 3, 3]", "none"),
        case("no weight in au", removed("au.stem.weight"), "tensor `au.stem.weight`", "[4, 3, 3, 3]", "none"),
        case("no mean", removed("emotion.bn.running_mean"), "tensor `emotion.bn.running_mean`", "[4]",
            "none"),
        case("no unit", removed("aws.mix.weight"), "tensor `aws.mix.weight`", "[2, 2, 4, 4]", "none"),
        case("no squeeze", removed("aws.grouped.squeeze.weight"), "`aws.grouped.squeeze.weight`", "[r, 8]",
            "none"),
        case("no excite bias", removed("aws.grouped.excite.bias"), "`aws.grouped.excite.bias`", "[2, 2, 4]",
            "none"),
        case("no head", removed("au.fc.weight"), "tensor `au.fc.weight`", "[2, 4]", "none"),
        case("an extra tensor", added("extra"), "tensor `extra`", "uses", "nothing uses"),
        case("a bias of a pool", added("emotion.pool.bias"), "tensor `emotion.pool.bias`", "uses",
            "nothing uses"),
        case("a unit where none is", added("aws.pool.weight"), "tensor `aws.pool.weight`", "uses",
            "nothing uses"),
        case("weight of 3 dimensions", reshaped("emotion.stem.weight", &[4, 3, 9]), "`emotion.stem.weight`",
            "[4, 3, 3, 3]", "[4, 3, 9]"),
        case("au has more channels", reshaped("au.stem.weight", &[5, 3, 3, 3]), "`au.stem.weight`",
            "[4, 3, 3, 3]", "[5, 3, 3, 3]"),
        case("groups", reshaped("emotion.grouped.weight", &[4, 4, 3, 1]), "`emotion.grouped.weight`",
            "[4, 2, 3, 1]", "[4, 4, 3, 1]"),
        case("no outputs", reshaped("emotion.stem.weight", &[0, 3, 3, 3]), "`emotion.stem.weight`",
            "[out, 3, 3, 3]", "out = 0"),
        case("a scalar", reshaped("emotion.stem.weight", &[]), "`emotion.stem.weight`", "[out, 3, 3, 3]",
            "scalar"),
        case("a scalar unit", reshaped("aws.stem.weight", &[]), "`aws.stem.weight`", "[2, 2, 4]", "[]"),
        case("a scalar gate", reshaped("aws.grouped.squeeze.weight", &[]), "`aws.grouped.squeeze.weight`",
            "[r, 8]", "[]"),
        case("r = 0", reshaped("aws.grouped.squeeze.weight", &[0, 8]), "`aws.grouped.squeeze.weight`",
            "at least 1", "[0, 8]"),
        case("excite of another r", reshaped("aws.grouped.excite.weight", &[2, 2, 4, 99]),
            "`aws.grouped.excite.weight`", "[2, 2, 4, ", "[2, 2, 4, 99]"),
        case("dense of another width", reshaped("aws.mix.weight", &[2, 2, 4, 5]), "`aws.mix.weight`",
            "[2, 2, 4, 4]", "[2, 2, 4, 5]"),
        case("a head's labels", reshaped("emotion.fc.weight", &[4, 5]), "`emotion.fc.weight`", "[3, 5]",
            "[4, 5]"),
        case("a head's features", reshaped("emotion.fc.weight", &[3, 6]), "`emotion.fc.weight`", "[3, 5]",
            "[3, 6]"),
        case("rank 10,000", reshaped("au.fc.weight", &vec![1; 10_000]), "`au.fc.weight`", "[2, 4]",
            "10000 dimensions"),
        case("rank 10,000 of a first weight", reshaped("emotion.stem.weight", &vec![1; 10_000]),
            "`emotion.stem.weight`", "3, 3, 3]", "10000 dimensions"),
        case("rank 10,000 of a gate, r = 0", reshaped("aws.mean.squeeze.weight", &high_rank),
            "`aws.mean.squeeze.weight`", "[r, 8]", "10000 dimensions"),
        case("F64", typed("emotion.stem.weight", "F64", 8), "`emotion.stem.weight`", "F32, F16 or BF16",
            "F64"),
        case("I64", typed("au.fc.weight", "I64", 8), "`au.fc.weight`", "F32, F16 or BF16", "I64"),
        case("BOOL", typed("aws.stem.weight", "BOOL", 1), "`aws.stem.weight`", "F32, F16 or BF16", "BOOL"),
        case("F8", typed("au.bn.running_var", "F8_E4M3", 1), "`au.bn.running_var`", "F32, F16 or BF16",
            "F8_E4M3"),
        // 20 and 21: batch norm.
        case(
            "variance 0 without eps",
            broken(|f| {
                f.manifest["layers"][0]["batch_norm_eps"] = json!(0);
                f.tensor("au.bn.running_var").set("F32", &[1.0, 0.0, 1.0, 1.0]);
            }),
            "tensor `au.bn.running_var`",
            "-eps",
            "0 at index 1",
        ),
        case("negative variance", values("emotion.bn.running_var", |v| v[3] = -0.5),
            "`emotion.bn.running_var`", "greater than", "-0.5 at index 3"),
        case("variance -eps", values("emotion.bn.running_var", |v| v[2] = -0.001), "`emotion.bn.running_var`",
            "greater than -eps", "index 2"),
        case(
            "the weight overflows",
            broken(|f| {
                f.tensor("emotion.stem.weight").set("F32", &[3e38; 108]);
                f.tensor("emotion.bn.weight").set("F32", &[100.0; 4]);
            }),
            "batch norm `emotion.bn`",
            "folded",
            "output channel 0",
        ),
        case(
            "the scale overflows",
            broken(|f| {
                f.manifest["layers"][0]["batch_norm_eps"] = json!(0);
                f.tensor("au.bn.weight").set("F32", &[1.0, 1.0, 3e38, 1.0]);
                f.tensor("au.bn.running_var").set("F32", &[1.0, 1.0, 1e-40, 1.0]);
            }),
            "batch norm `au.bn`",
            "folded",
            "output channel 2",
        ),
        case(
            "the bias overflows",
            broken(|f| {
                f.tensor("au.bn.running_mean").set("F32", &[3e38; 4]);
                f.tensor("au.bn.weight").set("F32", &[100.0; 4]);
            }),
            "batch norm `au.bn`",
            "folded",
            "output channel 0",
        ),
        // 15: names.
        case("an empty name", added(""), "tensor ``", "uses", "nothing uses"),
        case("NUL in a name", added("a\0b"), "tensor `a\\u{0}b`", "uses", "nothing uses"),
        case("a newline in a name", added("a\nb\u{1b}[31m"), "tensor `a\\nb\\u{1b}[31m`", "uses",
            "nothing uses"),
        case("1 MB of name", added(&"x".repeat(1 << 20)), "(1048576 bytes)", "uses", "nothing uses"),
        case("1 MB of NULs", added(&"\0".repeat(1 << 20)), "(1048576 bytes)", "uses", "nothing uses"),
    ]);
}

#[test]
fn faults_16_a_number_that_is_not_finite_is_refused_in_every_kind_of_tensor() {
    for name in KINDS {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for last in [false, true] {
                let mut file = valid();
                let tensor = file.tensor(name);
                let (dtype, mut values) = (tensor.dtype.clone(), tensor.values());
                let index = if last { values.len() - 1 } else { 0 };
                values[index] = bad;
                tensor.set(&dtype, &values);
                let error = Model::from_bytes(&file.bytes()).expect_err(name);
                check_message(&error, name);
                assert_eq!(error.place(), format!("tensor `{name}`"));
                assert!(error.found().starts_with(&bad.to_string()), "{error}");
                assert!(error.found().ends_with(&format!("index {index}")), "{error}");
            }
        }
    }
}

// Faults 17 to 19 and 22: the manifest.

#[test]
#[rustfmt::skip] // a table
fn faults_of_the_manifest() {
    let m = manifest_with;
    let name_twice = ("\"name\":\"pool\"", "\"name\":\"pool\",\"name\":\"pool\"");
    let text = |text: &str| header_with("/__metadata__/awsnet", json!(text));
    let padded = |padding: Value| {
        broken(|f| {
            f.manifest["layers"][1]["padding"] = padding;
        })
    };
    check(vec![
        case("no JSON", text("conv1"), "manifest", "JSON", ""),
        case("empty", text(""), "manifest", "JSON", "EOF"),
        case("an array", text("[]"), "manifest", "object", "[]"),
        case("deep", text(&"[".repeat(100_000)), "manifest", "JSON", "recursion"),
        case("a deep value", m("/layers/0/stride", (0..100).fold(json!(1), |v, _| json!([v]))),
            "layer `stem`: `stride`", "integer", ""),
        case("a bushy value", m("/layers/0/stride", (0..7).fold(json!(1), |v, _| json!([v, v, v, v]))),
            "layer `stem`: `stride`", "integer", ""),
        case("a long string", m("/layers/0/stride", json!("\n".repeat(1 << 20))), "layer `stem`: `stride`",
            "integer", "(1048576 bytes)"),
        case("version 2", m("/version", json!(2)), "manifest: `version`", "1", "2"),
        case("version 1.0", m("/version", json!(1.0)), "manifest: `version`", "1", "1.0"),
        case("version a string", m("/version", json!("1")), "manifest: `version`", "1", "\"1\""),
        case("version twice", text_with(false, "\\\"version\\\":1", "\\\"version\\\":1,\\\"version\\\":1"),
            "manifest", "no key twice", "version"),
        case("a layer's name twice", text_with(true, name_twice.0, name_twice.1), "manifest", "no key twice",
            "name"),
        case("heads twice", text_with(true, "\"heads\":", "\"heads\":{},\"heads\":"), "manifest",
            "no key twice", "heads"),
        case("a head twice", text_with(true, "\"emotion\":", "\"emotion\":{},\"emotion\":"), "manifest",
            "no key twice", "emotion"),
        case("an input key twice", text_with(true, "\"width\":5", "\"width\":5,\"width\":5"), "manifest",
            "no key twice", "width"),
        case("an unknown key", m("/classes", json!(7)), "manifest", "version, name, input", "`classes`"),
        case("an unknown key of the input", m("/input/scale", json!(1)), "`input`", "channels, height",
            "`scale`"),
        case("an unknown key of a layer", m("/layers/0/pad", json!(1)), "layer `stem`", "padding", "`pad`"),
        case("an unknown key of the heads", m("/heads/valence", json!({})), "`heads`", "emotion, au",
            "`valence`"),
        case("an unknown key of a head", m("/heads/au/bias", json!(true)), "head `au`", "labels", "`bias`"),
        case("a key with a newline", m("/layers/0/a\nb", json!(1)), "layer `stem`", "", "`a\\nb`"),
        case("1 MB of key", m(&format!("/layers/0/{}", "k".repeat(1 << 20)), json!(1)), "layer `stem`", "",
            "bytes)"),
        case("thresholds of emotions", m("/heads/emotion/thresholds", json!([])), "head `emotion`", "",
            "`thresholds`"),
        // Input
        case("two channels", m("/input/channels", json!(2)), "`channels`", "1 (luma) or 3 (RGB)", "2"),
        case("no height", m("/input/height", json!(0)), "`height`", "from 1", "0"),
        case("width 2^32", m("/input/width", json!(1u64 << 32)), "`width`", "4294967295", "4294967296"),
        case(
            "4294967295 x 4294967295",
            broken(|f| {
                f.manifest["input"]["height"] = json!(u32::MAX);
                f.manifest["input"]["width"] = json!(u32::MAX);
            }),
            "`input`",
            "address space",
            "4294967295x4294967295",
        ),
        case("mean of two", m("/input/mean", json!([0, 0])), "`mean`", "3 finite numbers", "2 numbers"),
        case("mean 1e300", m("/input/mean", json!([0, 0, 1e300])), "`mean`", "finite", "1e+300"),
        case("std 0", m("/input/std", json!([1, 0, 1])), "`std`", "greater than 0", "0"),
        case("std -1", m("/input/std", json!([1, 1, -1])), "`std`", "greater than 0", "-1"),
        case("std 1e-60", m("/input/std", json!([1, 1, 1e-60])), "`std`", "greater than 0", "0"),
        // Names and order
        case("the name image", m("/layers/0/name", json!("image")), "layer 0: `name`", "other than `image`",
            "`image`"),
        case("an empty name", m("/layers/0/name", json!("")), "layer 0: `name`", "letters", "``"),
        case("NUL in a name", m("/layers/1/name", json!("a\0b")), "layer 1: `name`", "letters", "`a\\u{0}b`"),
        case("a newline in a name", m("/layers/1/name", json!("a\nb")), "layer 1: `name`", "letters",
            "`a\\nb`"),
        case("a slash", m("/layers/1/name", json!("a/b")), "layer 1: `name`", "letters", "`a/b`"),
        case("a letter beyond ASCII", m("/layers/1/name", json!("\u{e9}")), "layer 1: `name`", "letters",
            "`\u{e9}`"),
        case("1 MB of bad name", m("/layers/1/name", json!("/".repeat(1 << 20))), "layer 1: `name`",
            "letters", "bytes)"),
        case("a name used twice", m("/layers/1/name", json!("stem")), "layer 1: `name`", "of its own",
            "`stem`"),
        case("reads itself", m("/layers/1/input", json!("pool")), "layer `pool`: `input`", "earlier",
            "`pool`"),
        case("reads a later layer", m("/layers/1/input", json!("mix")), "layer `pool`: `input`", "earlier",
            "`mix`"),
        case("reads nobody", m("/layers/1/input", json!("x\ny")), "layer `pool`: `input`", "earlier",
            "`x\\ny`"),
        case("a later residual", m("/layers/2/residual", json!("add")), "layer `mix`: `residual`", "earlier",
            "`add`"),
        case("the image as residual", m("/layers/2/residual", json!("image")), "`residual`", "earlier",
            "`image`"),
        case("a head reads nobody", m("/heads/au/input", json!("none")), "head `au`: `input`", "layer",
            "`none`"),
        // Operators
        case("an unknown op", m("/layers/0/op", json!("conv3d")), "layer `stem`: `op`", "conv2d, linear",
            "`conv3d`"),
        case("stride 0", m("/layers/0/stride", json!(0)), "layer `stem`: `stride`", "from 1", "0"),
        case("stride -1", m("/layers/0/stride", json!(-1)), "layer `stem`: `stride`", "from 1", "-1"),
        case("stride 1.0", m("/layers/0/stride", json!(1.0)), "layer `stem`: `stride`", "integer", "1.0"),
        case("stride of three", m("/layers/0/stride", json!([1, 1, 1])), "layer `stem`: `stride`",
            "array of 2", "[1, 1, 1]"),
        case("stride [1, 0]", m("/layers/0/stride", json!([1, 0])), "layer `stem`: `stride`", "from 1",
            "[1, 0]"),
        case("kernel 0", m("/layers/0/kernel", json!(0)), "layer `stem`: `kernel`", "from 1", "0"),
        case("no kernel", broken(|f| remove(&mut f.manifest, "/layers/0/kernel")), "layer `stem`: `kernel`",
            "at least 1", "missing"),
        case("dilation 0", m("/layers/3/dilation", json!(0)), "layer `grouped`: `dilation`", "from 1", "0"),
        case("groups 0", m("/layers/3/groups", json!(0)), "layer `grouped`: `groups`", "from 1", "0"),
        case("groups [2]", m("/layers/3/groups", json!([2])), "layer `grouped`: `groups`", "integer", "[2]"),
        case(
            "groups 3",
            broken(|f| {
                f.manifest["layers"][3]["groups"] = json!(3);
            }),
            "layer `grouped`",
            "groups",
            "4 input channels",
        ),
        case("groups 4294967295", m("/layers/3/groups", json!(u32::MAX)), "layer `grouped`", "groups",
            "4 input"),
        case("padding -1", m("/layers/0/padding", json!(-1)), "layer `stem`: `padding`", "from 0", "-1"),
        case("padding of three", m("/layers/0/padding", json!([1, 1, 1])), "`padding`", "array of 2 or 4",
            "[1, 1, 1]"),
        case("a pool's padding", padded(json!(2)), "layer `pool`: `padding`", "less than the kernel, 2x2",
            "[2, 2, 2, 2]"),
        case("a pool's bottom", padded(json!([0, 0, 2, 0])), "layer `pool`: `padding`", "less than",
            "[0, 0, 2, 0]"),
        case("a pool's dilation", m("/layers/1/dilation", json!(2)), "layer `pool`", "kernel", "`dilation`"),
        case("a linear's kernel", m("/layers/6/kernel", json!(1)), "layer `hidden`", "batch_norm",
            "`kernel`"),
        case("a pool's batch norm", m("/layers/1/batch_norm", json!("bn")), "layer `pool`", "",
            "`batch_norm`"),
        case("eps without batch norm", m("/layers/2/batch_norm_eps", json!(1e-3)), "`batch_norm_eps`",
            "batch_norm", "none"),
        case("eps -1", m("/layers/0/batch_norm_eps", json!(-1)), "layer `stem`: `batch_norm_eps`",
            "at least 0", "-1"),
        case("an unknown activation", m("/layers/0/activation", json!("gelu")), "`activation`", "none, relu",
            "`gelu`"),
        case("a slope of a relu", m("/layers/0/negative_slope", json!(0.1)), "layer `stem`", "",
            "`negative_slope`"),
        case("a slope of 1e39", m("/layers/3/negative_slope", json!(1e39)), "`negative_slope`", "finite",
            "1e+39"),
        case("an unknown unit", m("/layers/0/aws", json!("row")), "layer `stem`: `aws`", "none, layer",
            "`row`"),
        case("an unknown gate", m("/layers/3/gate", json!("tanh")), "layer `grouped`: `gate`", "softmax",
            "`tanh`"),
        case("a gate of another unit", m("/layers/0/gate", json!("softmax")), "layer `stem`", "", "`gate`"),
        // 19: empty outputs
        case("a window too high", m("/layers/5/kernel", json!([4, 2])), "layer `smaller`", "4x2", "3x5"),
        case("a window too wide", m("/layers/5/kernel", json!([3, 6])), "layer `smaller`", "3x6", "3x5"),
        case("dilated too far", m("/layers/3/dilation", json!([4, 1])), "layer `grouped`", "9x1", "7x5"),
        case("dilated beyond all", m("/layers/3/dilation", json!(u32::MAX)), "layer `grouped`",
            "8589934591x1", "7x5"),
        // 22: unequal shapes
        case("a residual of another shape", m("/layers/5/residual", json!("add")),
            "layer `smaller`: `residual`", "4x1x2", "`add`, which gives 4x3x5"),
        // Heads
        case("no heads", broken(|f| remove(&mut f.manifest, "/heads")), "`heads`", "object", "missing"),
        case("no au", broken(|f| remove(&mut f.manifest, "/heads/au")), "`heads`: `au`", "object", "missing"),
        case("no labels", m("/heads/au/labels", json!([])), "head `au`: `labels`", "at least one", "none"),
        case("an empty label", m("/heads/au/labels", json!(["A", ""])), "head `au`: `labels`", "not empty",
            "``"),
        case("a label twice", m("/heads/au/labels", json!(["A", "A"])), "head `au`: `labels`", "distinct",
            "`A`"),
        case("a label is a number", m("/heads/au/labels", json!(["A", 1])), "head `au`: `labels`", "index 1",
            "1"),
        case("one threshold", m("/heads/au/thresholds", json!([0.5])), "head `au`: `thresholds`", "2 numbers",
            "1"),
        case("threshold 1.5", m("/heads/au/thresholds", json!([0, 1.5])), "`thresholds`", "from 0 to 1",
            "1.5"),
        case("threshold -0.1", m("/heads/au/thresholds", json!([0, -0.1])), "`thresholds`", "from 0 to 1",
            "-0.1"),
        case("a head's tensor", m("/heads/au/tensor", json!("x\n")), "tensor `au.x\\n.weight`", "[2, 4]",
            "none"),
    ]);
}

/// Every place in a JSON tree, as pointers.
fn places(json: &Value, prefix: &str, out: &mut Vec<String>) {
    let mut visit = |key: String, value: &Value| {
        let pointer = format!("{prefix}/{key}");
        out.push(pointer.clone());
        places(value, &pointer, out);
    };
    match json {
        Value::Array(elements) => elements.iter().enumerate().for_each(|(i, v)| visit(i.to_string(), v)),
        Value::Object(members) => members.iter().for_each(|(key, v)| visit(key.replace('~', "~0"), v)),
        _ => {}
    }
}

/// What stands in place of each value.
fn replacements() -> Vec<Value> {
    let scalars = json!([
        null, true, -1, 0, 1, 2, 3, 1.5, -0.0, 1e-300, 1e300, 65_535, u32::MAX, 1u64 << 32, 1u64 << 63, u64::MAX,
        i64::MIN, "", "x", "image", "stem", "mean", "\u{0}\n", "F16", [], {}, [[]], [[[[[1], 2], 3], 4], 5], [{}],
        [1, 2], [0, 0, 0, 0], [1, 1, 1, 1], [u32::MAX, u32::MAX], [u32::MAX, 0, u32::MAX, 0], {"a": {"b": []}}
    ]);
    let mut all = scalars.as_array().expect("an array").clone();
    all.push(json!("y".repeat(5_000)));
    all.push(json!(vec![1; 5_000]));
    all
}

#[test]
fn the_manifest_with_anything_anywhere_loads_or_is_refused() {
    let file = valid();
    let mut pointers = Vec::new();
    places(&file.manifest, "", &mut pointers);
    assert!(pointers.len() > 90, "{}", pointers.len());
    let data = file.data();
    let mut header = file.header();
    let mut load = |manifest: &Value, what: &str| {
        header["__metadata__"]["awsnet"] = json!(manifest.to_string());
        let bytes = container(header.to_string().as_bytes(), &data);
        if let Some(model) = survives(&bytes, what) {
            run(&model, what);
        }
    };
    for pointer in pointers {
        let mut manifest = file.manifest.clone();
        remove(&mut manifest, &pointer);
        load(&manifest, &format!("without {pointer}"));
        for value in replacements() {
            let mut manifest = file.manifest.clone();
            set(&mut manifest, &pointer, value.clone());
            load(&manifest, &format!("{pointer} = {value:.60}"));
        }
    }
}

#[test]
fn the_header_with_anything_anywhere_loads_or_is_refused() {
    let file = valid();
    let mut pointers = Vec::new();
    places(&file.header(), "", &mut pointers);
    let data = file.data();
    for pointer in pointers {
        let mut header = file.header();
        remove(&mut header, &pointer);
        survives(&container(header.to_string().as_bytes(), &data), &format!("without {pointer}"));
        for value in replacements() {
            let mut header = file.header();
            set(&mut header, &pointer, value.clone());
            survives(&container(header.to_string().as_bytes(), &data), &format!("{pointer} = {value:.60}"));
        }
    }
}

// Faults 11, 18, 25 and 26: sizes beyond measure.

/// A file of these layers, each of one channel; for sizes that [`Network`] could not multiply.
fn one_channel(height: u64, width: u64, layers: Value, features: usize) -> ModelFile {
    let manifest = json!({
        "version": 1,
        "input": {"channels": 1, "height": height, "width": width, "mean": [0], "std": [1]},
        "layers": layers,
        "heads": {"emotion": {"input": "last", "labels": ["a"]}, "au": {"input": "last", "labels": ["b"]}},
    });
    let mut tensors = Vec::new();
    for branch in ["emotion", "au"] {
        tensors.push(StoredTensor::f32(&format!("{branch}.fc.weight"), &[1, features], &vec![0.5; features]));
        for layer in manifest["layers"].as_array().expect("an array") {
            // A kernel beyond measure has no tensor, which is a fault like another.
            let k = layer["kernel"].as_u64().unwrap_or(1) as usize;
            if layer["op"] == "conv2d" && k < 10 {
                let name = format!("{branch}.{}.weight", layer["name"].as_str().expect("a name"));
                tensors.push(StoredTensor::f32(&name, &[1, 1, k, k], &vec![0.25; k * k]));
            }
        }
    }
    ModelFile { manifest, tensors }
}

/// Loads, plans and opens a session: each may refuse, none may take long, panic or take the memory.
fn refused_before_allocating(file: &ModelFile, what: &str) -> Error {
    let begin = Instant::now();
    let batches = [1, 3, 1 << 20];
    let mut outcome = None;
    for target in Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Target::Cpu) {
        for batch in batches {
            let result = Model::from_bytes(&file.bytes())
                .and_then(|model| {
                    Plan::build(model, &PlanOptions { target, batch, ..PlanOptions::default() })
                })
                .and_then(|plan| Engine::new(plan, &EngineOptions { threads: 1, ..EngineOptions::default() }))
                .and_then(|engine| engine.session());
            match result {
                Ok(session) => panic!("{what}: a session at batch {batch} of\n{}", session.plan()),
                Err(error) => {
                    check_message(&error, what);
                    outcome = Some(error);
                }
            }
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{what}: {:?}", begin.elapsed());
    outcome.expect("an error")
}

#[test]
fn absurd_inputs_are_refused_before_anything_is_allocated() {
    let most = u64::from(u32::MAX);
    let identity = |name: &str, more: Value| {
        let mut layer = json!({"name": name, "op": "identity"});
        layer.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        layer
    };
    let gap = || json!({"name": "last", "op": "global_avg_pool2d"});
    let conv = |name: &str| json!({"name": name, "op": "conv2d", "kernel": 1});
    let cases = [
        ("4294967295 x 4294967295", one_channel(most, most, json!([gap()]), 1)),
        ("2^60 elements", one_channel(1 << 30, 1 << 30, json!([gap()]), 1)),
        ("just below the limit", one_channel(1 << 29, 1 << 30, json!([gap()]), 1)),
        (
            "a huge map thrice",
            one_channel(
                1 << 29,
                (1 << 31) - 1,
                json!([
                    identity("a", json!({"activation": "relu"})),
                    identity("b", json!({"activation": "relu"})),
                    identity("c", json!({"activation": "relu", "residual": "a"})),
                    gap(),
                ]),
                1,
            ),
        ),
        ("a gate over a huge column", one_channel(1 << 29, 1 << 30, json!([conv("a"), gap()]), 1)),
        ("one row of 2^32 - 1, 1x1 convolution", one_channel(1, most, json!([conv("a"), gap()]), 1)),
        ("one column of 2^32 - 1, 1x1 convolution", one_channel(most, 1, json!([conv("a"), gap()]), 1)),
        (
            "2^31 x 2^28, 3x3 convolution",
            one_channel(
                1 << 31,
                1 << 28,
                json!([
                    {"name": "a", "op": "conv2d", "kernel": 3, "padding": 1}, gap()
                ]),
                1,
            ),
        ),
        ("a head over a huge map", one_channel(1 << 20, 1 << 20, json!([identity("last", json!({}))]), 4)),
        (
            "a linear layer over a huge map",
            one_channel(
                1 << 20,
                1 << 20,
                json!([
                    {"name": "last", "op": "linear"}
                ]),
                1,
            ),
        ),
    ];
    for (what, file) in cases {
        refused_before_allocating(&file, what);
    }
}

#[test]
fn faults_26_an_arena_that_overflows_is_refused() {
    let most = u32::MAX;
    let padded = |padding: Value, stride: Value| json!({"name": "padded", "op": "conv2d", "kernel": 3, "padding": padding, "stride": stride});
    let first = json!({"name": "first", "op": "conv2d", "kernel": 1});
    let gap = json!({"name": "last", "op": "global_avg_pool2d"});
    let cases = [
        ("padding of the image", json!([padded(json!(most), json!(most)), gap])),
        ("padding of a layer", json!([first, padded(json!(most), json!(most)), gap])),
        (
            "padding of one side of a layer",
            json!([first, padded(json!([0, 0, most, most]), json!(most)), gap]),
        ),
        ("padding without stride", json!([first, padded(json!(1 << 24), json!(1)), gap])),
    ];
    for (what, layers) in cases {
        let error = refused_before_allocating(&one_channel(8, 8, layers, 1), what);
        assert!(
            matches!(error.kind(), ErrorKind::Plan | ErrorKind::Memory | ErrorKind::Model),
            "{what}: {error}"
        );
    }
}

#[test]
fn huge_windows_strides_and_dilations_of_small_maps_work() {
    let most = u32::MAX;
    let layers = json!([
        {"name": "a", "op": "conv2d", "kernel": 3, "padding": 1, "stride": most},
        {"name": "b", "op": "conv2d", "kernel": 1, "dilation": most, "stride": most},
        {"name": "c", "op": "conv2d", "kernel": 3, "padding": 1, "input": "image"},
        {"name": "d", "op": "max_pool2d", "kernel": [1, 1], "stride": [most, 1]},
        {"name": "e", "op": "max_pool2d", "kernel": 20_000, "padding": 19_999, "stride": 20_000},
        {"name": "last", "op": "avg_pool2d", "kernel": [3, 2], "padding": [2, 1, 2, 1], "stride": most},
    ]);
    loads_and_agrees(&one_channel(7, 5, layers, 1), "huge windows");
    // Windows and paddings that no map could have: refused or planned, without overflow.
    for kernel in [1, 2, 3, most] {
        for padding in [0, 1, most - 1, most] {
            for stride in [1, 2, most] {
                for op in ["max_pool2d", "avg_pool2d", "conv2d"] {
                    for dilation in [1, most] {
                        let mut layer = json!({"name": "last", "op": op, "kernel": kernel, "padding": padding,
                                               "stride": stride});
                        if op == "conv2d" {
                            layer["dilation"] = json!(dilation);
                        }
                        let what = layer.to_string();
                        let first = json!({"name": "first", "op": "identity", "activation": "relu"});
                        let mut file = one_channel(8, 8, json!([first, layer]), 1);
                        for features in [1, 4, 9, 64, 100, 144] {
                            for branch in ["emotion", "au"] {
                                let tensor = file.tensor(&format!("{branch}.fc.weight"));
                                *tensor =
                                    StoredTensor::f32(&tensor.name, &[1, features], &vec![0.5; features]);
                            }
                            let Some(model) = survives(&file.bytes(), &what) else { continue };
                            let plan = Plan::build(model, &PlanOptions::default());
                            plan.inspect_err(|error| check_message(error, &what)).ok();
                        }
                    }
                }
            }
        }
    }
}

// Faults 23 and 24: the file system.

fn refused(path: &Path) -> Error {
    let begin = Instant::now();
    let error = Model::load(path).expect_err("no model file");
    assert!(begin.elapsed() < Duration::from_secs(1), "{path:?}: {:?}", begin.elapsed());
    check_message(&error, &format!("{path:?}"));
    assert!(error.file().is_some(), "{error}");
    error
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = refused(folder.path());
    assert!(error.expected().contains("regular file") && error.found().contains("directory"), "{error}");
    let error = refused(&folder.path().join("missing"));
    assert!(error.to_string().contains("missing") && error.kind() == ErrorKind::File, "{error}");
    let error = refused(&folder.path().join("line\nbreak"));
    assert!(error.file().is_some_and(|file| file.ends_with("line\\nbreak")), "{error}");
    refused(&folder.path().join("x".repeat(100_000)));
    refused(Path::new(""));
    refused(Path::new("nul\0byte"));

    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, valid().bytes()).expect("a file");
    Model::load(&file).expect("a model");
    let error = refused(&file.join("below"));
    assert_eq!(error.kind(), ErrorKind::File, "{error}");
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_sockets_are_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    for path in [&fifo, &socket, Path::new("/dev/zero"), Path::new("/dev/null")] {
        let error = refused(path);
        assert!(error.expected().contains("regular file"), "{error}");
        assert_eq!(error.found(), "a device, pipe or socket", "{error}");
    }
    let dangling = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).expect("a link");
    assert_eq!(refused(&dangling).kind(), ErrorKind::File);
    let circle = folder.path().join("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("a link");
    assert_eq!(refused(&circle).kind(), ErrorKind::File);
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, valid().bytes()).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("permissions");
    if std::fs::File::open(&path).is_ok() {
        // Root may read everything: what a user would see cannot be shown here.
        eprintln!("not tested: this user may read files without permission");
        return;
    }
    let error = refused(&path);
    assert!(error.kind() == ErrorKind::File && error.found().contains("ermission"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_not_utf8_works_and_is_shown() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe.safetensors"));
    std::fs::write(&path, valid().bytes()).expect("a file");
    Model::load(&path).expect("a model");
    std::fs::write(&path, b"short").expect("a file");
    assert!(refused(&path).to_string().contains("5 bytes"));
}

#[cfg(target_os = "linux")]
#[test]
fn faults_23_a_file_shorter_than_its_length_is_refused() {
    // sysfs says 4096 bytes of files that hold a few: the same as a file that shrinks between asking and reading.
    let path = Path::new("/sys/devices/system/cpu/online");
    match std::fs::read(path) {
        Ok(content) if content.len() < 8 && path.metadata().is_ok_and(|m| m.len() == 4096) => {
            let error = refused(path);
            assert!(error.kind() == ErrorKind::File && error.found().contains("early end"), "{error}");
        }
        _ => eprintln!("not tested: no sysfs"),
    }
}

#[test]
fn faults_23_a_file_that_changes_while_it_is_read_is_a_model_or_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let whole = valid().bytes();
    std::fs::write(&path, &whole).expect("a file");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut loaded, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::new(23);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let file = std::fs::File::options().write(true).open(&path).expect("the file");
                file.set_len(rng.below(whole.len()) as u64).expect("a shorter file");
                std::fs::write(&path, [&whole[..], &vec![0; rng.below(3)]].concat()).expect("the file again");
            }
        });
        for _ in 0..2_000 {
            match Model::load(&path) {
                Ok(_) => loaded += 1,
                Err(error) => {
                    check_message(&error, "changing");
                    refused += 1;
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    println!("{loaded} loaded, {refused} refused");
    std::fs::write(&path, &whole).expect("the file again");
    Model::load(&path).expect("a model");
}

// Corners of the format that are valid.

/// Loads a file and compares every backend with the reference.
fn loads_and_agrees(file: &ModelFile, what: &str) {
    let model = Model::from_bytes(&file.bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut rng = Rng::new(5);
    let image: Vec<f32> = (0..model.input().shape.len()).map(|_| rng.between(-1.0, 1.0)).collect();
    let expected = reference::evaluate(&model, &image).logits;
    let cpus = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Target::Cpu);
    for target in cpus.chain([Target::Reference]) {
        let plan = Plan::build(model.clone(), &PlanOptions { target, ..PlanOptions::default() }).expect(what);
        let mut session = Engine::new(plan, &EngineOptions { threads: 2, ..EngineOptions::default() })
            .expect(what)
            .session()
            .expect(what);
        let predictions = session.run(&image).expect(what);
        for branch in Branch::BOTH {
            let found = predictions.get(0).logits(branch);
            assert_eq!(found.len(), expected[branch as usize].len(), "{what}");
            for (&found, expected) in found.iter().zip(&expected[branch as usize]) {
                let error = (f64::from(found) - expected).abs();
                assert!(
                    error <= 1e-5 * expected.abs().max(1.0),
                    "{what} on {target}: {found}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn valid_corners_load_and_agree_with_the_reference() {
    let changed = |change: &dyn Fn(&mut ModelFile)| {
        let mut file = valid();
        change(&mut file);
        file
    };
    let network = |image: [usize; 3], layers: &[(Value, usize)], emotion: &str, au: &str| {
        let mut network = Network::new(9, Numbers::Real, image);
        for (layer, out_channels) in layers {
            network.layer(layer.clone(), *out_channels);
        }
        network.heads((emotion, 3), (au, 2))
    };
    let conv = |name: &str| json!({"name": name, "op": "conv2d", "kernel": 3, "padding": 1});
    let without = |pointers: &'static [&'static str]| {
        changed(&|f| pointers.iter().for_each(|pointer| remove(&mut f.manifest, pointer)))
    };
    let normed = |name: &str| json!({"name": name, "op": "conv2d", "kernel": 1, "batch_norm": "bn"});
    let mut shared_norm = network([3, 4, 4], &[(normed("a"), 3), (normed("b"), 3)], "b", "a");
    let mut seen = std::collections::HashSet::new();
    shared_norm.tensors.retain(|tensor| seen.insert(tensor.name.clone()));
    let fc = json!({"name": "fc", "op": "linear"});
    let mut shared_fc = network([1, 2, 2], &[(fc, 4)], "fc", "fc");
    // Head and layer `fc` of 4 features and 4 rows are one tensor.
    let mut seen = std::collections::HashSet::new();
    shared_fc.tensors.retain(|tensor| !tensor.name.contains("bias") && seen.insert(tensor.name.clone()));
    for (branch, labels) in [("emotion", "E"), ("au", "A")] {
        shared_fc.manifest["heads"][branch]["labels"] = json!([0, 1, 2, 3].map(|i| format!("{labels}{i}")));
    }
    shared_fc.manifest["heads"]["au"]["thresholds"] = json!([0, 1, 0.5, 0.25]);

    let mut cases = vec![
        ("the valid file".to_owned(), valid()),
        (
            "integers for floats".into(),
            changed(&|f| {
                f.manifest["input"]["mean"] = json!([0, 0, 0]);
                f.manifest["input"]["std"] = json!([1, 1, 2]);
                f.manifest["heads"]["au"]["thresholds"] = json!([0, 1]);
                f.manifest["layers"][0]["batch_norm_eps"] = json!(1);
                f.manifest["layers"][3]["negative_slope"] = json!(0);
            }),
        ),
        (
            "a floating-point zero".into(),
            changed(&|f| f.manifest["layers"][0]["batch_norm_eps"] = json!(-0.0)),
        ),
        ("no name".into(), without(&["/name"])),
        ("an odd name".into(), changed(&|f| f.manifest["name"] = json!("\n\u{0} \u{1f600}".repeat(1_000)))),
        (
            "defaults".into(),
            without(&["/heads/au/thresholds", "/heads/emotion/tensor", "/layers/3/negative_slope"]),
        ),
        ("a default gate and eps".into(), without(&["/layers/3/gate", "/layers/0/batch_norm_eps"])),
        (
            "none spelt out".into(),
            changed(&|f| {
                f.manifest["layers"][1]["aws"] = json!("none");
                f.manifest["layers"][1]["activation"] = json!("none");
                f.manifest["layers"][1]["input"] = json!("stem");
                f.manifest["layers"][0]["input"] = json!("image");
                f.manifest["layers"][2]["groups"] = json!(1);
            }),
        ),
        ("heads without bias".into(), changed(&|f| f.tensors.retain(|t| !t.name.contains("fc.bias")))),
        (
            "no bias at all".into(),
            changed(&|f| {
                f.tensors.retain(|t| {
                    !t.name.ends_with(".bias") || t.name.contains("bn") || t.name.starts_with("aws")
                });
            }),
        ),
        (
            "variance below zero, above -eps".into(),
            changed(&|f| {
                f.manifest["layers"][0]["batch_norm_eps"] = json!(1);
                f.tensor("emotion.bn.running_var").set("F32", &[-0.5, 0.0, 1.0, -0.25]);
            }),
        ),
        ("two layers share a batch norm".into(), shared_norm),
        ("a layer and the head called fc".into(), shared_fc),
        (
            "layers that nobody reads".into(),
            network(
                [3, 4, 5],
                &[
                    (conv("a"), 5),
                    (conv("b"), 6),
                    (json!({"name": "c", "op": "linear", "aws": "gate"}), 3),
                    (json!({"name": "d", "op": "identity", "input": "image", "aws": "dense"}), 0),
                ],
                "a",
                "image",
            ),
        ),
        ("no layers".into(), network([3, 3, 2], &[], "image", "image")),
        ("no layers, one pixel".into(), network([1, 1, 1], &[], "image", "image")),
        (
            "an identity with nothing".into(),
            network([1, 4, 4], &[(json!({"name": "a", "op": "identity"}), 0)], "a", "a"),
        ),
        (
            "two identities with nothing".into(),
            network(
                [3, 4, 4],
                &[
                    (json!({"name": "a", "op": "identity"}), 0),
                    (json!({"name": "b", "op": "identity"}), 0),
                    (conv("c"), 4),
                ],
                "c",
                "b",
            ),
        ),
        (
            "an identity on the image".into(),
            network(
                [3, 4, 4],
                &[(json!({"name": "a", "op": "identity", "activation": "silu", "aws": "channel"}), 0)],
                "a",
                "a",
            ),
        ),
        (
            "the image as a residual, by an identity".into(),
            network(
                [3, 4, 4],
                &[
                    (json!({"name": "a", "op": "identity"}), 0),
                    (
                        {
                            let mut layer = conv("b");
                            layer["residual"] = json!("a");
                            layer
                        },
                        3,
                    ),
                ],
                "b",
                "b",
            ),
        ),
        (
            "a kernel larger than the input".into(),
            network(
                [3, 2, 3],
                &[
                    (json!({"name": "a", "op": "conv2d", "kernel": [7, 9], "padding": [3, 5]}), 4),
                    (
                        json!({"name": "b", "op": "conv2d", "kernel": 5, "dilation": 3, "padding": 9, "stride": 4}),
                        4,
                    ),
                ],
                "b",
                "a",
            ),
        ),
        (
            "one pixel through everything".into(),
            network(
                [1, 1, 1],
                &[
                    (conv("a"), 17),
                    (json!({"name": "b", "op": "max_pool2d", "kernel": 3, "padding": 1}), 0),
                    (json!({"name": "c", "op": "conv2d", "kernel": 1, "groups": 17, "aws": "dense"}), 17),
                    (
                        json!({"name": "d", "op": "avg_pool2d", "kernel": 2, "padding": [1, 0, 0, 1], "aws": "gate"}),
                        0,
                    ),
                    (
                        json!({"name": "e", "op": "global_avg_pool2d", "residual": "a", "activation": "silu"}),
                        0,
                    ),
                    (json!({"name": "f", "op": "linear", "aws": "layer"}), 9),
                ],
                "f",
                "e",
            ),
        ),
        ("a name of 1 MB".into(), {
            let name = "n".repeat(1 << 20);
            network([1, 2, 2], &[(conv(&name), 2)], &name, "image")
        }),
        (
            "names of dots".into(),
            network([1, 2, 2], &[(conv("."), 2), (conv("..weight"), 2)], "..weight", "."),
        ),
    ];
    for dtype in [("I64", 8), ("I32", 4), ("F64", 8), ("BOOL", 1), ("U8", 1)] {
        cases.push((
            format!("num_batches_tracked of type {}", dtype.0),
            changed(&|f| {
                for name in ["emotion.bn.num_batches_tracked", "au.hidden_bn.num_batches_tracked"] {
                    let (dtype, data) = (dtype.0.into(), vec![0xff; dtype.1]);
                    f.tensors.push(StoredTensor { name: name.into(), dtype, dims: vec![], data });
                }
            }),
        ));
    }
    for dtype in ["F16", "BF16"] {
        let narrow = changed(&|f| f.tensors.iter_mut().for_each(|tensor| tensor.convert(dtype)));
        cases.push((format!("everything {dtype}"), narrow));
    }
    for (what, file) in &cases {
        loads_and_agrees(file, what);
    }

    // Other keys of the metadata, and a header padded with spaces as the safetensors library writes it.
    let file = valid();
    let mut header = file.header();
    header["__metadata__"]["author"] = json!("a\nb");
    let text = format!("{header}{}", " ".repeat(13));
    Model::from_bytes(&container(text.as_bytes(), &file.data())).expect("other metadata");
    let members: Map<String, Value> =
        header.as_object().expect("an object").clone().into_iter().rev().collect();
    let text = Value::Object(members).to_string();
    Model::from_bytes(&container(text.as_bytes(), &file.data())).expect("another order");
}
