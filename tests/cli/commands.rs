//! Every command: what it prints, as text and as JSON, and what it writes.

use std::path::Path;

use awsnet::{Device, Engine, EngineOptions, Model, Plan, PlanOptions};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::call;
use crate::harness::{GATED, MODEL, SIZE, awsnet, image, keys, names, onnx, write_tensor};

#[test]
fn help_and_version_go_to_stdout() {
    let commands =
        ["predict", "run", "info", "plan", "verify", "bench", "init", "import", "doctor", "completions"];
    for command in commands {
        let help = call!(command, "--help");
        assert!(help.lines().len() > 3 && help.stderr.is_empty(), "{command}");
        assert!(call!("--help").stdout.contains(command));
    }
    assert_eq!(call!("--version").lines(), [concat!("awsnet ", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn a_shells_completion_knows_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = call!("completions", shell).lines().join("\n");
        for word in ["predict", "import", "min-face", "smooth"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(call!("completions", "tcsh").fails(2).contains("tcsh"));
}

#[test]
fn quiet_says_what_fails_and_nothing_else() {
    let call = call!("predict", &*MODEL, image(), "--device", "auto", "--quiet");
    assert_eq!((call.lines().len(), &*call.stderr), (1, ""));
    let call = call!("--quiet", "predict", &*MODEL, image(), "missing.png", "--device", "cpu");
    let errors: Vec<&str> = call.stderr.lines().collect();
    assert_eq!((call.code, call.stdout.lines().count(), errors.len()), (1, 1, 2), "{}", call.stderr);
    assert!(errors[0].contains("missing.png") && errors[1].contains("1 of 2"), "{errors:?}");
}

#[test]
fn results_go_to_a_file_whole_or_not_at_all() {
    let folder = tempdir().expect("a folder");
    let (out, other) = (folder.path().join("faces.jsonl"), folder.path().join("other.png"));
    let expected = call!("predict", &*MODEL, image(), "--json", "--device", "cpu").stdout;
    for path in [out.as_os_str(), "-".as_ref(), "/dev/stdout".as_ref()] {
        let call = call!("predict", &*MODEL, image(), "--json", "--device", "cpu", "-o", path);
        assert_eq!(call.code, 0, "{}", call.stderr);
        let (to_stdout, written) = (path != out.as_os_str(), std::fs::read_to_string(&out).expect("a file"));
        assert_eq!(call.stdout, if to_stdout { &*expected } else { "" }, "{path:?}");
        assert_eq!(written, expected);
    }
    // What was done is there where something failed; a file that is there is replaced.
    let call = call!("predict", &*MODEL, image(), "gone.png", "--csv", "--output", &out, "--device", "cpu");
    assert_eq!(call.code, 1);
    let written = std::fs::read_to_string(&out).expect("a file");
    assert_eq!(written.lines().count(), 2, "a header and a row: {written}");
    // A call that is wrong leaves it alone, and so does one that names an input.
    std::fs::copy(image(), &other).expect("a copy");
    for (output, code, part) in [
        (&other, 2, "other.png: expected an output apart from the inputs"),
        (&folder.path().join("no/such/file"), 1, "no/such/file: expected a file that can be written"),
        (&folder.path().to_owned(), 1, "expected a file that can be written"),
    ] {
        let call = call!("predict", &*MODEL, &other, "-o", output, "--device", "cpu");
        assert!(call.fails(code).contains(part), "{}", call.stderr);
        assert_eq!(call.stdout, "");
    }
    assert_eq!(std::fs::read(&other).expect("the input"), std::fs::read(image()).expect("the input"));
    assert_eq!(names(folder.path()), ["faces.jsonl", "other.png"], "nothing half written is left");
}

#[test]
fn predict_gives_a_line_of_json_an_image_in_the_order_of_the_paths() {
    let folder = tempdir().expect("a folder");
    for name in ["b.png", "a.PNG", "sub/c.png", "sub/deep/d.png", "notes.txt"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::copy(image(), path).expect("a copy");
    }
    for batch in ["1", "3", "64"] {
        let call =
            call!("predict", &*MODEL, image(), folder.path(), "--json", "--batch", batch, "--device", "cpu");
        let lines = call.json();
        let found: Vec<&str> = lines.iter().map(|line| line["image"].as_str().expect("a path")).collect();
        let expected = ["a.PNG", "b.png", "sub/c.png", "sub/deep/d.png"].map(|name| folder.path().join(name));
        assert_eq!(found[0], image().to_str().expect("UTF-8"));
        assert_eq!(found[1..], expected.each_ref().map(|path| path.to_str().expect("UTF-8")));
        for line in &lines {
            assert_eq!(line["emotion"], lines[0]["emotion"], "batch {batch}: one picture, one answer");
        }
        assert!(call.stderr.is_empty(), "{}", call.stderr);
    }
}

#[test]
fn predict_json_has_the_contracts_keys_with_labels_in_the_models_order() {
    let call = call!("predict", &*MODEL, image(), "--json");
    let line = &call.json()[0];
    assert_eq!(keys(line), ["au", "emotion", "image", "schema"]);
    assert_eq!(keys(&line["emotion"]), ["label", "scores"]);
    assert_eq!(keys(&line["au"]), ["active", "scores"]);

    let model = Model::load(&*MODEL).expect("a model");
    for key in ["emotion", "au"] {
        let labels = model.head(key).expect("a head").labels();
        let begin = call.stdout.find(&format!("\"{key}\":")).expect("the head");
        let positions: Vec<usize> = labels
            .iter()
            .map(|label| begin + call.stdout[begin..].find(&format!("\"{label}\":")).expect("a label"))
            .collect();
        assert!(positions.is_sorted(), "{key}: {}", call.stdout);
        assert_eq!(line[key]["scores"].as_object().map(|scores| scores.len()), Some(labels.len()));
    }
    let probability = |value: &Value| value.as_f64().expect("a number");
    let emotion = line["emotion"]["scores"].as_object().expect("scores");
    assert!((emotion.values().map(probability).sum::<f64>() - 1.0).abs() < 1e-5);
    let (label, _) =
        emotion.iter().max_by(|a, b| probability(a.1).total_cmp(&probability(b.1))).expect("a score");
    assert_eq!(&line["emotion"]["label"], label);
    let active = line["au"]["active"].as_array().expect("labels");
    for (label, score) in line["au"]["scores"].as_object().expect("scores") {
        assert_eq!(active.contains(&json!(label)), probability(score) >= 0.5, "{label}");
    }
}

#[test]
fn predict_for_people_aligns_its_columns() {
    let folder = tempdir().expect("a folder");
    for name in ["a.png", "a-long-name.png"] {
        std::fs::copy(image(), folder.path().join(name)).expect("a copy");
    }
    let call = call!("predict", &*MODEL, folder.path());
    let lines = call.lines();
    let columns: Vec<usize> = lines
        .iter()
        .map(|line| line.rfind("  AU").or(line.rfind("  no AU")).expect("the action units"))
        .collect();
    assert_eq!(columns[0], columns[1], "{}", call.stdout);
}

#[test]
fn predict_takes_a_box_and_each_fit() {
    for fit in ["stretch", "letterbox", "crop"] {
        assert_eq!(call!("predict", &*MODEL, image(), "--fit", fit, "--box", "0,0,4,4").lines().len(), 1);
    }
    let outside = call!("predict", &*MODEL, image(), "--box", "0,0,4000,4", "--json");
    assert!(outside.fails_with_results(1)[0]["error"].as_str().expect("a text").contains("0,0,4000,4"));
}

#[test]
fn run_gives_the_four_tensors_for_any_number_of_images() {
    let folder = tempdir().expect("a folder");
    let (input, output) = (folder.path().join("x.safetensors"), folder.path().join("y.safetensors"));
    let model = Model::load(&*MODEL).expect("a model");
    for (count, batch) in [(1, "8"), (5, "2"), (17, "17")] {
        write_tensor(&input, "image", safetensors::Dtype::F32, &[count, 3, SIZE, SIZE]);
        let call = call!(
            "run", &*MODEL, "--input", &input, "--output", &output, "--batch", batch, "--device", "cpu"
        );
        assert!(call.lines().is_empty() && call.stderr.is_empty());

        let bytes = std::fs::read(&output).expect("the output");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let mut found = file.names();
        found.sort_unstable();
        assert_eq!(found, ["au.logits", "au.probabilities", "emotion.logits", "emotion.probabilities"]);

        // The library's answer, image by image, by a plan of the same batch.
        let target = Device::Cpu.resolve().expect("the CPU").target;
        let batch_of_plan = batch.parse::<usize>().expect("a number").min(count);
        let options = PlanOptions::new().target(target).batch(batch_of_plan);
        let plan = Plan::build(model.clone(), &options).expect("a plan");
        let mut session =
            Engine::new(plan, &EngineOptions::default()).and_then(|e| e.session()).expect("a session");
        let input = std::fs::read(&input).expect("the input");
        let input = safetensors::SafeTensors::deserialize(&input).expect("a file");
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
        };
        let images = floats(input.tensor("image").expect("a tensor").data());
        for head in model.heads() {
            let labels = head.labels().len();
            for kind in ["logits", "probabilities"] {
                let tensor = file.tensor(&format!("{}.{kind}", head.name())).expect("a tensor");
                assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &[count, labels][..]));
                let expected: Vec<f32> = images
                    .chunks_exact(3 * SIZE * SIZE)
                    .flat_map(|image| {
                        let predictions = session.run(image).expect("a run");
                        let scores = predictions.head(head.name()).expect("a head");
                        if kind == "logits" { scores.logits.to_vec() } else { scores.probabilities.to_vec() }
                    })
                    .collect();
                assert_eq!(floats(tensor.data()), expected, "{count} images in batches of {batch}");
            }
        }
    }
    assert_eq!(names(folder.path()), ["x.safetensors", "y.safetensors"]);
}

/// A model with heads of every kind on two branches, none of them of its branch's name but one.
const HEADS: &str = "tests/golden/three_heads_on_one_branch.model.safetensors";

#[test]
fn every_head_is_in_the_results_under_its_name() {
    let call = call!("predict", HEADS, image(), "--json");
    let line = &call.json()[0];
    let at = |key: &str| call.stdout.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}"));
    assert!(["image", "mood", "body", "units", "pixels"].map(at).is_sorted(), "{}", call.stdout);
    assert_eq!(keys(line), ["body", "image", "mood", "pixels", "schema", "units"]);
    assert_eq!(keys(&line["body"]), ["label", "scores"]);
    assert_eq!(keys(&line["units"]), ["active", "scores"]);
    assert_eq!(keys(&line["mood"]), ["values"]);
    assert_eq!(keys(&line["mood"]["values"]), ["arousal", "valence"]);
    assert_eq!(line["pixels"]["values"].as_array().map(Vec::len), Some(3), "numbers without names");

    let text = call!("predict", HEADS, image()).stdout;
    assert!(text.contains("valence ") && text.contains("arousal "), "{text}");
    let info = call!("info", HEADS).stdout;
    assert!(info.contains("mood head, reads b of body, as they are: valence, arousal"), "{info}");

    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("x.safetensors"), folder.path().join("y.safetensors"));
    let image = [0u8; 3 * 6 * 7 * 4];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 3, 6, 7], &image);
    let file = safetensors::serialize([("image", view.expect("a tensor"))], None).expect("a file");
    std::fs::write(&input, file).expect("to write");
    call!("run", HEADS, "--input", &input, "--output", &output);
    let file = std::fs::read(&output).expect("the results");
    let file = safetensors::SafeTensors::deserialize(&file).expect("a file");
    let mut names = file.names();
    names.sort();
    let expected = [
        "body.logits",
        "body.probabilities",
        "mood.logits",
        "pixels.logits",
        "units.logits",
        "units.probabilities",
    ];
    assert_eq!(names, expected);
}

#[test]
fn one_network_alone_is_made_described_and_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model.safetensors");
    for architecture in ["mobilenet_v3_small", "efficientnet_b0", "densenet121"] {
        call!("init", "--arch", architecture, "--size", "40", "--branches", "1", "-o", &model);
        let info = &call!("info", &model, "--json").json()[0];
        assert_eq!((&info["branches"], keys(&info["heads"])), (&json!(["emotion"]), vec!["emotion"]));
        let verified = call!("verify", &model, "--json");
        assert!(!verified.json().is_empty(), "{}", verified.stdout);
    }
}

#[test]
fn info_tells_layers_and_shares() {
    let model = Model::load(&*MODEL).expect("a model");
    let call = call!("info", &*MODEL, "--json");
    let info = &call.json()[0];
    let layers = info["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), model.layers().len());
    assert_eq!(info["parameters"], json!(model.parameters()));
    assert_eq!(info["flop"], json!(model.flop()));
    for (layer, stated) in model.layers().iter().zip(layers) {
        assert_eq!(stated["name"], layer.name());
        let Some(awsnet::model::AwsUnit::Channel(a)) = layer.aws() else {
            assert!(stated.get("aws").is_none());
            continue;
        };
        // |A[t][s]| / (|A[t][t]| + |A[t][s]|), averaged over channels
        let c = a.len() / 4;
        for (t, key) in ["emotion_borrows", "au_borrows"].into_iter().enumerate() {
            let magnitude = |s: usize, i: usize| f64::from(a[(2 * t + s) * c + i].abs());
            let share = |i| magnitude(1 - t, i) / (magnitude(t, i) + magnitude(1 - t, i));
            let expected = (0..c).map(share).sum::<f64>() / c as f64;
            let found = stated["aws"][key].as_f64().expect("a share");
            assert!((found - expected).abs() < 1e-6, "{key} of {}: {found}, {expected}", layer.name());
        }
    }
    let text = call!("info", &*MODEL);
    assert!(model.layers().iter().all(|layer| text.stdout.contains(layer.name())), "{}", text.stdout);
}

#[test]
fn info_says_that_a_gates_shares_depend_on_the_image() {
    let info = &call!("info", &*GATED, "--json").json()[0];
    let units: Vec<&Value> =
        info["layers"].as_array().expect("layers").iter().filter_map(|l| l.get("aws")).collect();
    assert!(!units.is_empty() && units.iter().all(|unit| unit["depends_on_image"] == json!(true)), "{info}");
    assert!(call!("info", &*GATED).stdout.contains("depends on the image"));
}

#[test]
fn info_draws_the_units_by_name() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("sharing.svg");
    for model in [&*MODEL, &*GATED] {
        call!("info", model, "--svg", &path).lines();
        let svg = std::fs::read_to_string(&path).expect("the figure");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(names(folder.path()), ["sharing.svg"]);
    }
}

#[test]
fn plan_lists_nodes_that_add_up() {
    let plan = &call!("plan", &*MODEL, "--json", "--device", "cpu").json()[0];
    assert_eq!(keys(plan), ["arena_bytes", "launches", "nodes", "weight_bytes"]);
    let nodes = plan["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().all(|node| keys(node) == ["bytes", "flop", "kernel", "launches", "name", "tile"]));
    let launches: u64 = nodes.iter().map(|node| node["launches"].as_u64().expect("a number")).sum();
    assert_eq!(plan["launches"], json!(launches));
    assert!(call!("plan", &*MODEL).lines().len() > nodes.len());
    let table = call!("plan", &*MODEL, "--device", "cpu").stdout;
    assert!(table.contains(&format!("\n{} nodes, ", nodes.len())), "{table}");
    let slow = call!("plan", &*MODEL, "--device", "cuda:sm_90", "--precision", "f32").stderr;
    assert!(slow.contains("tensor cores are not used"), "{slow}");
    assert_eq!(call!("plan", &*MODEL, "--device", "cuda:sm_90", "--precision", "f16").stderr, "");
    let table = call!("plan", &*MODEL, "--device", "cuda:sm_90").stdout;
    assert!(table.contains(" launches, "), "{table}");
    let bytes =
        |batch: &str| call!("plan", &*MODEL, "--json", "--batch", batch).json()[0]["arena_bytes"].as_u64();
    assert!(bytes("8") > bytes("1"));
}

#[test]
fn verify_finds_every_node_within_its_bound() {
    for model in [&*MODEL, &*GATED] {
        let verified = &call!("verify", model, "--json", "--device", "cpu", "--batch", "2").json()[0];
        assert_eq!(verified["ok"], json!(true));
        assert!(verified["nodes"].as_array().is_some_and(|nodes| nodes.len() > 3), "{verified}");
    }
    assert!(call!("verify", &*MODEL).lines().len() > 4);
    // A linear layer over a map of 3x3 looks like what Winograd's algorithm computes.
    for case in ["linear", "conv2d"] {
        let model =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{case}.model.safetensors"));
        let ways = call!("verify", model, "--json", "--device", "cpu", "--algorithms").json();
        let told: Vec<(&Value, &Value)> = ways.iter().map(|way| (&way["algorithm"], &way["ok"])).collect();
        let (f2, f4) = (json!("F(2x2)"), json!("F(4x4)"));
        assert_eq!(told, [(&json!("direct"), &json!(true)), (&f2, &json!(true)), (&f4, &json!(true))]);
    }
    let elsewhere = call!("verify", &*MODEL, "--device", "reference", "--algorithms");
    assert!(elsewhere.fails(2).contains("expected a CPU"), "{}", elsewhere.stderr);
    assert!(call!("verify", &*MODEL, "--device", "reference").fails(1).contains("reference"));
}

#[test]
fn bench_gives_a_line_a_batch_size() {
    let lines =
        call!("bench", &*MODEL, "--batch", "1,4", "--runs", "1000", "--json", "--device", "cpu").json();
    assert_eq!(lines.iter().map(|line| &line["batch"]).collect::<Vec<_>>(), [&json!(1), &json!(4)]);
    for line in &lines {
        assert_eq!(keys(line), ["batch", "gflop_per_s", "images_per_s", "median_ms", "p999_ms", "p99_ms"]);
        let ms = |key: &str| line[key].as_f64().expect("a number");
        assert!(ms("median_ms") > 0.0 && ms("median_ms") <= ms("p99_ms") && ms("p99_ms") <= ms("p999_ms"));
    }
    assert_eq!(call!("bench", &*MODEL, "--batch", "1", "--runs", "2", "--cold").lines().len(), 2);
}

#[test]
fn bench_gives_no_tail_of_too_few_runs() {
    for (runs, p99, p999) in [("99", false, false), ("100", true, false), ("1000", true, true)] {
        let line = &call!("bench", &*MODEL, "--runs", runs, "--json", "--device", "cpu").json()[0];
        assert_eq!([&line["p99_ms"], &line["p999_ms"]].map(|tail| !tail.is_null()), [p99, p999], "{line}");
    }
    let lines = call!("bench", &*MODEL, "--runs", "3", "--device", "cpu").stdout;
    assert_eq!(lines.matches(" -").count(), 2, "{lines}");
}

#[test]
fn bench_measures_start_up() {
    let start = call!("bench", &*MODEL, "--start-up", "--runs", "3", "--json", "--device", "cpu").json();
    let run = call!("bench", &*MODEL, "--runs", "3", "--json", "--device", "cpu").json();
    assert_eq!(keys(&start[0]), keys(&run[0]));
    let median_ms = |lines: &[serde_json::Value]| lines[0]["median_ms"].as_f64().expect("a number");
    assert!(median_ms(&start) > median_ms(&run), "{start:?} {run:?}");
}

#[test]
fn bench_compares_two_models_in_turns() {
    let options = ["--device", "cpu", "--runs", "20"];
    let bench = |more: &[&str]| {
        let mut bench = awsnet(["bench"]);
        let done = bench.arg(&*MODEL).args(options).args(more).output().expect("the binary starts");
        (done.status.code(), String::from_utf8(done.stdout).expect("UTF-8"))
    };
    let other = GATED.to_str().expect("UTF-8");
    let (_, line) = bench(&["--against", other, "--json"]);
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let against = &line["against"];
    let ratio = number(&against["ratio"]);
    assert!(number(&line["median_ms"]) > 0.0 && number(&against["median_ms"]) > 0.0, "{line}");
    let quartiles = &against["ratio_quartiles"];
    assert!(number(&quartiles[0]) <= ratio && ratio <= number(&quartiles[1]), "{line}");
    let (code, table) = bench(&["--against", other]);
    assert!(code == Some(0) && table.lines().count() == 3 && table.contains("against; the ratio"), "{table}");
    for refused in ["--nodes", "--start-up"] {
        assert_eq!(bench(&["--against", other, refused]).0, Some(2), "{refused}");
    }
    assert_eq!(bench(&["--against", "missing.safetensors"]).0, Some(1));
}

#[test]
fn bench_holds_the_choices_for_a_cpu_against_the_other_ways() {
    let bench = || {
        let mut bench = awsnet(["bench"]);
        bench.arg(&*MODEL).args(["--algorithms", "--device", "cpu", "--runs", "3", "--batch", "1,2"]);
        bench
    };
    let plan =
        |batch: &str| call!("plan", &*MODEL, "--device", "cpu", "--batch", batch, "--json").json()[0].clone();
    let plans = [plan("1"), plan("2")];
    let lines = bench().arg("--json").output().expect("the binary starts");
    let lines = String::from_utf8(lines.stdout).expect("UTF-8");
    assert!(lines.contains(r#""batch":1,"#) && lines.contains(r#""batch":2,"#), "{lines}");
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(keys(&line), ["batch", "chosen", "fastest", "node", "us"]);
        let plan = &plans[line["batch"].as_u64().expect("a number") as usize - 1];
        let nodes = plan["nodes"].as_array().expect("nodes");
        let node = nodes.iter().find(|node| node["name"] == line["node"]).expect("a node of the plan");
        let winograd = node["kernel"] == "conv2d_winograd";
        assert_eq!(line["chosen"], if winograd { node["tile"].clone() } else { json!("direct") }, "{line}");
        let us = line["us"].as_object().expect("a time for each way");
        let fastest = us[line["fastest"].as_str().expect("a way")].as_f64();
        assert!(us.len() == 3 && us.values().all(|us| us.as_f64() >= fastest), "{line}");
    }
    let table = bench().output().expect("the binary starts");
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    assert_eq!(table.lines().count(), lines.lines().count() + 2 * 2, "{table}");
    for other in [&["--cold"][..], &["--nodes"], &["--start-up"], &["--against", "other.safetensors"]] {
        let refused = bench().args(other).output().expect("the binary starts");
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    let refused = call!("bench", &*MODEL, "--algorithms", "--device", "reference");
    assert!(refused.fails(2).contains("expected --device cpu, found reference"), "{}", refused.stderr);
}

#[test]
fn tune_is_for_a_gpu_and_names_what_a_cpu_has() {
    for device in ["cpu", "reference"] {
        let refused = call!("tune", &*MODEL, "--device", device);
        let message = refused.fails(2);
        assert!(message.contains("tune: expected a GPU"), "{message}");
        assert!(message.contains("awsnet bench MODEL --algorithms"), "{message}");
    }
}

#[test]
fn init_writes_models_that_load() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("m.safetensors");
    for aws in ["none", "layer", "channel", "dense", "gate"] {
        let args =
            ["init", "--arch", "tiny", "--size", "33", "--aws", aws, "--seed", "7", "--dtype", "f16", "-o"];
        let written = awsnet(args).arg(&path).output().expect("the binary starts");
        assert!(written.status.success(), "{written:?}");
        let model = Model::load(&path).expect("a valid model");
        assert_eq!((model.name(), model.input().shape.height), (Some("tiny"), 33));
        let kind =
            model.layers().iter().find_map(|layer| layer.aws()).map_or("none", |unit| unit.kind().name());
        assert_eq!(kind, aws);
    }
}

#[test]
fn import_writes_models_that_load() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("m.safetensors");
    let labels = folder.path().join("labels.txt");
    std::fs::write(&labels, "calm\n happy\n\nsad\n").expect("a file");
    let call = call!(
        "import",
        onnx("pair_a.onnx"),
        onnx("pair_b.onnx"),
        "-o",
        &path,
        "--labels",
        &labels,
        "--au-labels",
        "a,b,c,d,e",
        "--thresholds",
        "0.3",
        "--mean",
        "0.5",
        "--std",
        "0.25,0.5,1"
    );
    assert!(call.lines().is_empty());
    assert!(call.stderr.contains("differ from the graphs'"), "{}", call.stderr);
    let model = Model::load(&path).expect("a valid model");
    assert_eq!(model.input().std, [0.25, 0.5, 1.0]);
    assert_eq!(model.heads()[0].labels(), ["calm", "happy", "sad"]);
    assert_eq!(model.heads()[1].thresholds(), [0.3; 5]);
    let one = call!(
        "import",
        onnx("any_size.onnx"),
        "--size",
        "9x10",
        "--names",
        "mood",
        "--kind",
        "values",
        "-o",
        &path
    );
    // What is taken for granted is said.
    assert!(one.lines().is_empty() && one.stderr.contains("neither mean nor std"), "{}", one.stderr);
    let model = Model::load(&path).expect("a valid model");
    assert_eq!((model.branches(), model.input().shape.width), (&["mood".to_owned()][..], 10));
}

#[test]
fn doctor_says_what_there_is() {
    let doctor = &call!("doctor", "--json").json()[0];
    for key in ["driver", "devices", "kernels", "cpu", "auto"] {
        assert!(doctor.get(key).is_some(), "{doctor}");
    }
    assert_eq!(doctor["kernels"]["compiled"], json!(!awsnet::cuda::embedded_architectures().is_empty()));
    assert!(doctor["auto"].as_str().is_some_and(|auto| auto == "cpu" || auto.starts_with("cuda:")));
    assert!(call!("doctor").lines().len() >= 4);
}
