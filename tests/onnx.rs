//! What `awsnet::onnx` makes of ONNX files, a rule of it a file, and what it says of those it refuses.
//!
//! The files and what ONNX Runtime computes of them are made by tools/outside/import_cases.py. Each is imported, compared with
//! its graph by the importer itself, and run by the reference here.

use std::path::{Path, PathBuf};

use awsnet::onnx::{ImportOptions, import};
use awsnet::{Device, Engine, EngineOptions, Model, Plan, PlanOptions};
use safetensors::SafeTensors;
use serde_json::Value;

/// What most graphs end with, which sees whether neighbours stayed neighbours.
const HEAD: &str = "conv2d kernel 3 padding 1 relu, global_avg_pool2d, classes";

/// A file, and the layers and the head that it becomes.
#[rustfmt::skip]
const READ: &[(&str, &str)] = &[
    ("any_size", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("average_over_all", "conv2d kernel 3 padding 1, global_avg_pool2d, conv2d kernel 3 padding 1 relu, classes"),
    ("average_pool_counts_padding", "conv2d kernel 3 padding 1, avg_pool2d kernel 3 stride 1 padding 1, HEAD"),
    ("average_pool_same", "conv2d kernel 3 padding 1, avg_pool2d kernel 3 stride 2 padding [0,0,1,1] count_include_pad false, HEAD"),
    ("batch_norm", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("batch_norm_behind_linear", "linear, classes"),
    ("batch_norm_behind_pool", "conv2d kernel 3 padding 1, max_pool2d kernel 2 stride 1 + batch_norm relu, HEAD"),
    ("batch_norm_behind_relu", "conv2d kernel 3 padding 1 relu, identity + batch_norm, HEAD"),
    ("batch_norm_in_pieces", "conv2d kernel 3 padding 1, HEAD"),
    ("ceil_mode", "conv2d kernel 3 padding 1, max_pool2d kernel 3 stride 2 ceil_mode true, HEAD"),
    ("ceil_mode_of_an_average", "conv2d kernel 3 padding 1, avg_pool2d kernel 3 stride 2 ceil_mode true count_include_pad false, HEAD"),
    ("ceil_mode_that_changes_nothing", "conv2d kernel 3 padding 1, max_pool2d kernel 2, HEAD"),
    ("channels_last", "conv2d kernel 3 relu, identity + batch_norm, conv2d kernel 1, concat, global_avg_pool2d, classes"),
    ("clip_of_another_range", "conv2d kernel 3 padding 1 hardsigmoid, identity + batch_norm, HEAD"),
    ("concat", "conv2d kernel 3 padding 1, max_pool2d kernel 3 stride 1 padding 1, concat, HEAD"),
    ("constant_nodes", "global_avg_pool2d, classes"),
    ("constants_among_inputs", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("convolution_as_head", "global_avg_pool2d, classes"),
    ("depthwise", "conv2d kernel 3 padding 1, conv2d kernel 3 padding 1 groups 4 relu, HEAD"),
    ("difference", "conv2d kernel 3 padding 1, conv2d kernel 3 padding 1 + residual, HEAD"),
    ("elu", "conv2d kernel 3 padding 1 elu, HEAD"),
    ("every_second_pixel", "conv2d kernel 3 padding 1, max_pool2d kernel 1 stride 2, HEAD"),
    ("external_data", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("flatten", "linear relu, classes"),
    ("flatten_channels_last", "conv2d kernel 3 padding 1, classes"),
    ("gelu", "conv2d kernel 3 padding 1 gelu, HEAD"),
    ("gelu_of_erf", "conv2d kernel 3 padding 1 gelu, HEAD"),
    ("gelu_of_tanh", "conv2d kernel 3 padding 1 gelu_tanh, HEAD"),
    ("gemm_of_factors", "global_avg_pool2d, classes"),
    ("global_max_pool", "conv2d kernel 3 padding 1, max_pool2d kernel 8, conv2d kernel 3 padding 1 relu, classes"),
    ("grey", "conv2d kernel 3 relu, HEAD"),
    ("grouped_and_dilated", "conv2d kernel 1, conv2d kernel 3 dilation 2 groups 2 relu, HEAD"),
    ("half_floats", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("halves", "conv2d kernel 3 padding 1, conv2d kernel 1 relu, conv2d kernel 1, concat, HEAD"),
    ("hardsigmoid", "conv2d kernel 3 padding 1 hardsigmoid, HEAD"),
    ("hardsigmoid_of_keras", "conv2d kernel 3 padding 1 hardsigmoid, identity + batch_norm, HEAD"),
    ("hardswish", "conv2d kernel 3 padding 1 hardswish, HEAD"),
    ("hardswish_in_pieces", "conv2d kernel 3 padding 1 hardswish, HEAD"),
    ("hardswish_of_hardsigmoid", "conv2d kernel 3 padding 1 hardswish, HEAD"),
    ("image_turned_to_bgr", "conv2d kernel 3, HEAD"),
    ("leaky_relu", "conv2d kernel 3 padding 1 leaky_relu, HEAD"),
    ("log_softmax", "global_avg_pool2d, classes"),
    ("mean_as_head", "conv2d kernel 3 padding 1 relu, global_avg_pool2d, classes as they are"),
    ("means_one_after_another", "conv2d kernel 3 padding 1, avg_pool2d kernel [1,8], global_avg_pool2d, classes"),
    ("normalisation", "conv2d kernel 3 relu, HEAD"),
    ("normalisation_of_bytes", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("pad_before_average_pool", "conv2d kernel 3 padding 1, avg_pool2d kernel 3 stride 2 padding 1, HEAD"),
    ("pad_before_conv", "conv2d kernel 3 stride 2 padding [0,0,1,1], HEAD"),
    ("pad_before_max_pool_of_any_sign", "conv2d kernel 3 padding 1, conv2d kernel 1 padding 1 groups 4, max_pool2d kernel 3 stride 2, HEAD"),
    ("pad_before_max_pool_of_relu", "conv2d kernel 3 padding 1 relu, max_pool2d kernel 3 stride 2 padding [0,0,1,1], HEAD"),
    ("pad_before_sigmoid", "conv2d kernel 3 padding 1, conv2d kernel 1 padding 1 groups 4 sigmoid, HEAD"),
    ("pad_of_attributes", "conv2d kernel 3 padding [1,0,1,2], HEAD"),
    ("pad_of_the_lowest", "conv2d kernel 3 padding 1, max_pool2d kernel 3 stride 2 padding 1, HEAD"),
    ("pair_a", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("pair_b", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("pair_of_another_kernel", "conv2d kernel 5 padding 2 relu, HEAD"),
    ("pair_squeezed_a", "conv2d kernel 3 padding 1 relu, conv2d kernel 1 relu, global_avg_pool2d, classes as they are"),
    ("pair_squeezed_b", "conv2d kernel 3 padding 1 relu, conv2d kernel 1 relu, global_avg_pool2d, classes as they are"),
    ("prelu", "conv2d kernel 3 padding 1 prelu, HEAD"),
    ("prelu_of_one_slope", "conv2d kernel 3 padding 1 leaky_relu, HEAD"),
    ("product_of_maps", "conv2d kernel 3 padding 1, conv2d kernel 3 padding 1 sigmoid, identity * scale, HEAD"),
    ("reduce_mean_of_inputs", "conv2d kernel 3 padding 1, global_avg_pool2d, classes"),
    ("relu6_of_attributes", "conv2d kernel 3 padding 1 relu6, HEAD"),
    ("relu6_of_inputs", "conv2d kernel 3 padding 1 relu6, HEAD"),
    ("relu_of_max", "conv2d kernel 3 padding 1 relu, HEAD"),
    ("reshape_by_the_image", "global_avg_pool2d, classes"),
    ("residual", "conv2d kernel 3 padding 1, conv2d kernel 3 padding 1 + residual relu, HEAD"),
    ("residual_of_a_shared_map", "conv2d kernel 3 padding 1, conv2d kernel 1 relu, identity + residual, HEAD"),
    ("resize", "conv2d kernel 3 padding 1, upsample2d factor [2,3], HEAD"),
    ("resize_of_half_pixels", "conv2d kernel 3 padding 1, upsample2d factor 2, HEAD"),
    ("same_lower", "conv2d kernel 3 stride 2 padding [1,1,0,0], HEAD"),
    ("same_upper", "conv2d kernel 3 stride 2 padding [0,0,1,1], HEAD"),
    ("shuffle_before_conv", "conv2d kernel 3 padding 1, conv2d kernel 1, HEAD"),
    ("shuffle_before_depthwise", "conv2d kernel 3 padding 1, conv2d kernel 3 groups 4 relu, HEAD"),
    ("shuffle_before_pool", "conv2d kernel 3 padding 1, max_pool2d kernel 2 stride 1, HEAD"),
    ("shuffle_before_sum", "conv2d kernel 3 padding 1, conv2d kernel 1 + residual, HEAD"),
    ("shuffle_of_a_batch_of_any_size", "conv2d kernel 3 padding 1, HEAD"),
    ("sigmoid", "global_avg_pool2d, units"),
    ("silu", "conv2d kernel 3 padding 1 silu, HEAD"),
    ("silu_behind_batch_norm", "conv2d kernel 3 padding 1 silu, HEAD"),
    ("slice_of_channels", "conv2d kernel 3 padding 1, HEAD"),
    ("softmax", "global_avg_pool2d, classes"),
    ("softmax_of_version_11", "global_avg_pool2d, classes"),
    ("squeeze_excite", "conv2d kernel 3 padding 1 relu, global_avg_pool2d, conv2d kernel 1 relu, conv2d kernel 1 hardsigmoid, identity * scale, HEAD"),
    ("squeeze_excite_of_linear", "conv2d kernel 3 padding 1, global_avg_pool2d, linear relu, linear sigmoid, identity * scale, HEAD"),
    ("tanh", "conv2d kernel 3 padding 1 tanh, HEAD"),
    ("tile", "conv2d kernel 3 padding 1, upsample2d factor 2, HEAD"),
    ("twice", "conv2d kernel 3 padding 1, HEAD"),
    ("two_activations", "conv2d kernel 3 padding 1 relu, identity sigmoid, HEAD"),
    ("upsample", "conv2d kernel 3 padding 1, upsample2d factor 2, HEAD"),
];

/// A file, and parts of the error of it, place first.
const REFUSED: &[(&str, &[&str])] = &[
    ("another_domain", &["node `Relu_m` (Relu)", "an operator of ONNX itself", "`my`"]),
    ("batch_of_two", &["input `x`", "a batch of 2"]),
    ("constant_scores", &["scores that depend on the image"]),
    ("crop", &["node `Conv_near` (Conv)", "channels stay whole"]),
    ("dilated_max_pool", &["node `MaxPool_m` (MaxPool)", "dilation"]),
    ("elu_of_another_alpha", &["node `Elu_m` (Elu)", "activation"]),
    ("four_channels", &["input `x`", "1 or 3 channels", "[?, 4, 8, 8]"]),
    ("hardsigmoid_at_the_end", &["output", "--kind values"]),
    ("instance_norm", &["node `InstanceNormalization_m` (InstanceNormalization)"]),
    ("layer_norm", &["node `ReduceMean_a` (ReduceMean)", "height, width"]),
    ("linear_resize", &["node `Resize_m` (Resize)", "linear"]),
    ("mean_over_channels", &["node `ReduceMean_m` (ReduceMean)", "axes [1]"]),
    ("mish", &["node `Mul_m` (Mul)", "an activation that a model file can hold"]),
    ("old_operators", &["version 7", "6"]),
    ("padding_of_ones", &["node `Pad_b` (Pad)", "zeros", "1"]),
    ("quotient_of_maps", &["node `Div_m` (Div)"]),
    ("reflected_padding", &["node `Pad_b` (Pad)", "reflect"]),
    ("resize_by_a_fraction", &["node `Resize_m` (Resize)"]),
    ("softmax_within", &["node `Softmax_s` (Softmax)", "at the end"]),
    ("spatial_gate", &["node `Mul_m` (Mul)", "[1, 1, 8, 8]"]),
    ("square", &["node `Mul_m` (Mul)", "activation"]),
    ("sum_over_a_number_a_channel", &["node `Add_m` (Add)"]),
    ("transposed_convolution", &["node `ConvTranspose_m` (ConvTranspose)"]),
    ("two_inputs", &["one input", "`x`, `other`"]),
    ("two_outputs", &["one output", "`y`, `m`"]),
    ("unknown_attribute", &["node `Relu_m` (Relu)", "no attributes", "`consumed_inputs`"]),
    ("weights_that_are_computed", &["node `Conv_m` (Conv)", "constants"]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx")
}

fn file(name: &str) -> PathBuf {
    folder().join(format!("{name}.onnx"))
}

/// The names of a folder's ONNX files, in order.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let onnx = paths.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    let mut names: Vec<String> =
        onnx.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The manifest of a model file.
fn manifest(bytes: &[u8]) -> Value {
    let (_, metadata) = SafeTensors::read_metadata(bytes).expect("a safetensors file");
    let text = &metadata.metadata().as_ref().expect("metadata")["awsnet"];
    serde_json::from_str(text).expect("JSON")
}

/// The layers of a manifest in a line, then the kind of its head `name`.
fn layers(manifest: &Value, name: &str) -> String {
    let keys =
        ["kernel", "stride", "padding", "dilation", "groups", "ceil_mode", "count_include_pad", "factor"];
    let layer = |layer: &Value| {
        let mut text = layer["op"].as_str().expect("an operator").to_owned();
        for key in keys.iter().filter(|key| !layer[**key].is_null()) {
            text += &format!(" {key} {}", layer[*key]);
        }
        for (key, sign) in [("batch_norm", "+"), ("scale", "*"), ("residual", "+")] {
            if !layer[key].is_null() {
                text += &format!(" {sign} {key}");
            }
        }
        layer["activation"].as_str().map_or(text.clone(), |activation| format!("{text} {activation}"))
    };
    let layers = manifest["layers"].as_array().expect("layers").iter().map(layer);
    let head = &manifest["heads"][name];
    let kind = head["kind"].as_str().unwrap_or("classes");
    let end = if head["tensor"].is_null() { format!("{kind} as they are") } else { kind.to_owned() };
    layers.chain([end]).collect::<Vec<_>>().join(", ")
}

/// The logits and probabilities of every head, by the reference.
fn run(model: Model, image: &[f32]) -> Vec<[Vec<f32>; 2]> {
    let plan = Plan::build(model, &PlanOptions::new().device(Device::Reference)).expect("a plan");
    let engine = Engine::new(plan, &EngineOptions::new()).expect("an engine");
    let mut session = engine.session().expect("a session");
    let predictions = session.run(image).expect("predictions");
    predictions.heads().map(|head| [head.logits.to_vec(), head.probabilities.to_vec()]).collect()
}

/// ONNX Runtime's input and output of a file.
struct Expected {
    dims: Vec<usize>,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Expected {
    fn load(name: &str) -> Self {
        let bytes = std::fs::read(folder().join("expected.safetensors")).expect("expected values");
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensor = |suffix: &str| {
            let view = tensors.tensor(&format!("{name}.{suffix}")).expect("a tensor");
            let floats = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            (view.shape().to_vec(), floats.collect::<Vec<f32>>())
        };
        let ((dims, x), (_, y)) = (tensor("x"), tensor("y"));
        Expected { dims, x, y }
    }

    /// The image as the model reads it: [C, H, W], normalised.
    fn image(&self, name: &str, model: &Model) -> Vec<f32> {
        let input = model.input();
        let (channels, pixels) = (input.shape.channels, input.shape.height * input.shape.width);
        let channels_last = self.dims[1] != channels;
        let range = if name.ends_with("of_bytes") { 255.0 } else { 1.0 };
        let value = |channel: usize, pixel: usize| {
            let place = if channels_last { pixel * channels + channel } else { channel * pixels + pixel };
            (self.x[place] / range - input.mean[channel]) / input.std[channel]
        };
        (0..channels).flat_map(|channel| (0..pixels).map(move |pixel| value(channel, pixel))).collect()
    }
}

/// The largest difference, in parts of the largest value.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    found.iter().zip(expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn every_rule_gives_its_layers_and_the_scores_of_onnx_runtime() {
    assert_eq!(names_in(&folder()), READ.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for &(name, expected_layers) in READ {
        let mut options = ImportOptions::new();
        if name == "any_size" {
            options = options.size(8, 8);
        }
        let imported = import(&[file(name)], &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = layers(&manifest(imported.bytes()), "emotion");
        assert_eq!(text, expected_layers.replace("HEAD", HEAD), "{name}");
        assert!(imported.error().expect("a comparison") < 1e-5, "{name}: {:?}", imported.error());

        let model = Model::from_bytes(imported.bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = Expected::load(name);
        let image = expected.image(name, &model);
        let [logits, probabilities] = run(model, &image).remove(0);
        let (found, bound) = match name {
            "half_floats" => (logits, 5e-3), // the graph computes in them
            "log_softmax" => (probabilities.iter().map(|p| p.ln()).collect(), 1e-5),
            "softmax" | "softmax_of_version_11" | "sigmoid" => (probabilities, 1e-5),
            _ => (logits, 1e-5),
        };
        let error = difference(&found, &expected.y);
        assert!(error < bound, "{name}: {error}, {found:?} and {:?}", expected.y);
    }
}

#[test]
fn what_no_model_file_can_hold_is_named() {
    assert_eq!(
        names_in(&folder().join("refused")),
        REFUSED.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    for &(name, parts) in REFUSED {
        let path = folder().join("refused").join(format!("{name}.onnx"));
        let error = import(&[&path], &ImportOptions::new()).expect_err(name);
        assert_eq!(error.file(), path.to_str(), "{error}");
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{name}: {text}");
        }
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn two_networks_of_one_shape_become_the_branches_of_a_file_of_version_1() {
    let imported = import(&[file("pair_a"), file("pair_b")], &ImportOptions::new()).expect("a model");
    let manifest = manifest(imported.bytes());
    assert_eq!(manifest["version"], 1);
    assert_eq!(manifest["name"], "pair_a");
    assert_eq!(manifest["heads"]["emotion"]["labels"][2], "class2");
    assert_eq!(manifest["heads"]["au"]["labels"][4], "unit4");
    let model = Model::from_bytes(imported.bytes()).expect("a valid model");
    for (index, name) in ["pair_a", "pair_b"].into_iter().enumerate() {
        let expected = Expected::load(name);
        let [logits, _] = run(model.clone(), &expected.x).swap_remove(index);
        assert!(difference(&logits, &expected.y) < 1e-5, "{name}");
    }
}

#[test]
fn networks_whose_scores_are_channels_may_have_another_number_of_them() {
    let files = ["pair_squeezed_a", "pair_squeezed_b"];
    for files in [files, [files[1], files[0]]] {
        let imported = import(&files.map(file), &ImportOptions::new()).expect("a model");
        let model = Model::from_bytes(imported.bytes()).expect("a valid model");
        for (index, name) in files.into_iter().enumerate() {
            let expected = Expected::load(name);
            let [logits, _] = run(model.clone(), &expected.x).swap_remove(index);
            assert!(difference(&logits, &expected.y) < 1e-5, "{name}");
        }
    }
}

#[test]
fn two_networks_that_differ_are_refused_at_the_first_layer_that_does() {
    let error = import(&[file("pair_a"), file("pair_of_another_kernel")], &ImportOptions::new());
    let text = error.expect_err("two shapes").to_string();
    for part in
        ["node `Conv_c` (Conv) and node `Conv_c` (Conv)", "kernel 3", "kernel 5", "into a file of its own"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn options_say_what_a_graph_does_not() {
    use awsnet::model::{ChannelOrder, HeadKind};
    let text = |values: &[&str]| values.iter().map(|&v| v.to_owned()).collect::<Vec<String>>();
    let options = ImportOptions::new()
        .name("faces")
        .branches(["a", "b"])
        .mean(&[0.5])
        .std(&[0.1, 0.2, 0.3])
        .order(ChannelOrder::Bgr)
        .kind(0, HeadKind::Units)
        .labels(0, text(&["x", "y", "z"]))
        .thresholds(0, vec![0.25])
        .kind(1, HeadKind::Values);
    let imported = import(&[file("pair_a"), file("pair_b")], &options).expect("a model");
    let manifest = manifest(imported.bytes());
    assert_eq!(manifest["version"], 2);
    assert_eq!(manifest["branches"], serde_json::json!(["a", "b"]));
    assert_eq!(manifest["input"]["mean"], serde_json::json!([0.5, 0.5, 0.5]));
    assert_eq!(manifest["input"]["order"], "bgr");
    assert_eq!(manifest["heads"]["a"]["labels"], serde_json::json!(["x", "y", "z"]));
    assert_eq!(manifest["heads"]["a"]["thresholds"], serde_json::json!([0.25, 0.25, 0.25]));
    assert_eq!(manifest["heads"]["b"]["kind"], "values");
    assert!(imported.notes().is_empty(), "{:?}", imported.notes());

    // (options, file, part of the error)
    let new = ImportOptions::new;
    for (options, name, part) in [
        (new().labels(0, text(&["x"])), "pair_a", "labels of `emotion`: expected 3"),
        (new().mean(&[0.1, 0.2]), "pair_a", "mean: expected one number, or 3"),
        (new().thresholds(0, vec![0.5]), "pair_a", "a head of units"),
        (new().kind(0, HeadKind::Units).thresholds(0, vec![0.5; 2]), "pair_a", "expected 3, one a score"),
        (new().kind(0, HeadKind::Units), "softmax", "no softmax"),
        (new().kind(0, HeadKind::Classes), "sigmoid", "no sigmoid"),
        (new().size(9, 9), "pair_a", "the file's size, 8"),
        (new(), "any_size", "--size"),
        (new().std(&[0.0]), "pair_a", "std"),
    ] {
        let error = import(&[file(name)], &options).expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_graphs_own_normalisation_is_the_models() {
    let imported = import(&[file("normalisation_of_bytes")], &ImportOptions::new()).expect("a model");
    let model = Model::from_bytes(imported.bytes()).expect("a valid model");
    for value in model.input().mean.iter().chain(&model.input().std) {
        assert!((value - 0.5).abs() < 1e-6, "{:?}", model.input());
    }
    assert!(imported.notes()[0].contains("from 0 to 255"), "{:?}", imported.notes());
}

#[test]
fn files_that_are_damaged_or_crafted_end_in_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("faulty.onnx");
    let options = ImportOptions::new().check(false);
    let whole = std::fs::read(file("batch_norm_behind_pool")).expect("a file");
    let try_bytes = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("a file");
        import(&[&path], &options).map(|_| ())
    };
    // Cut short anywhere, it is no graph of one output any more.
    for len in (0..whole.len()).step_by(7) {
        assert!(try_bytes(&whole[..len]).is_err(), "{len} bytes");
    }
    // A byte changed anywhere is an error, or another network, but no panic.
    for at in 0..whole.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            let _ = try_bytes(&bytes);
        }
    }
    // Graphs within graphs: model.graph.node.attribute.g.node ...
    let mut nested = Vec::new();
    for level in 0..30_000 {
        let field: u8 = if level % 3 == 0 {
            6
        } else if level % 3 == 1 {
            5
        } else {
            1
        };
        let mut outer = vec![field << 3 | 2];
        let mut len = nested.len();
        while len >= 0x80 {
            outer.push(len as u8 | 0x80);
            len >>= 7;
        }
        outer.push(len as u8);
        outer.extend_from_slice(&nested);
        nested = outer;
        if nested.len() > 200_000 {
            break;
        }
    }
    let error = try_bytes(&nested).expect_err("no graph");
    assert!(!error.to_string().is_empty());
    // A length that no file has.
    let huge = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(try_bytes(&huge).expect_err("a length").found().contains("bytes"));
}

#[test]
fn arrays_in_other_files_must_lie_below() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |name: &str, to: &str| {
        std::fs::copy(self::folder().join(name), folder.path().join(to)).expect("a copy");
    };
    copy("external_data.onnx", "a.onnx");
    let path = folder.path().join("a.onnx");
    let error = import(&[&path], &ImportOptions::new()).expect_err("a missing file").to_string();
    assert!(error.contains("external_data.data"), "{error}");
    copy("external_data.data", "external_data.data");
    import(&[&path], &ImportOptions::new()).expect("a model");
    // The same length: `external_data.data` becomes `../ternal_data.data`.
    let bytes = std::fs::read(&path).expect("a file");
    let at = bytes.windows(8).position(|window| window == b"external").expect("a name");
    let mut outside = bytes.clone();
    outside[at..at + 3].copy_from_slice(b"../");
    for start in (0..bytes.len() - 8).filter(|&start| &bytes[start..start + 8] == b"external") {
        outside[start..start + 3].copy_from_slice(b"../");
    }
    std::fs::write(&path, outside).expect("a file");
    let error = import(&[&path], &ImportOptions::new()).expect_err("a file outside").to_string();
    assert!(error.contains("in one beside it"), "{error}");
}
