//! Corners of the format that are valid.

use serde_json::Map;

use super::*;

/// Loads a file and compares every backend with the reference.
fn loads_and_agrees(file: &ModelFile, what: &str) {
    let model = Model::from_bytes(&file.bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut rng = Rng::new(5);
    let image: Vec<f32> = (0..model.input().shape.len()).map(|_| rng.between(-1.0, 1.0)).collect();
    let expected = reference::evaluate(&model, &image).logits;
    let cpus = isas().map(Target::Cpu);
    for target in cpus.chain([Target::Reference]) {
        let plan = Plan::build(model.clone(), &PlanOptions::new().target(target)).expect(what);
        let mut session =
            Engine::new(plan, &EngineOptions::new().threads(2)).expect(what).session().expect(what);
        let predictions = session.run(&image).expect(what);
        for (head, expected) in predictions.heads().zip(&expected) {
            assert_eq!(head.logits.len(), expected.len(), "{what}");
            for (&found, expected) in head.logits.iter().zip(expected) {
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
                            let plan = Plan::build(model, &PlanOptions::new().device(Device::Cpu));
                            plan.inspect_err(|error| check_message(error, &what)).ok();
                        }
                    }
                }
            }
        }
    }
}
