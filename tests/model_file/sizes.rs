//! Sizes beyond measure.

use super::*;

/// Loads, plans and opens a session: each may refuse, none may take long, panic or take the memory.
fn refused_before_allocating(file: &ModelFile, what: &str) -> Error {
    let begin = Instant::now();
    let batches = [1, 3, 1 << 20];
    let mut outcome = None;
    for target in isas().map(Target::Cpu) {
        for batch in batches {
            let result = Model::from_bytes(&file.bytes())
                .and_then(|model| Plan::build(model, &PlanOptions::new().target(target).batch(batch)))
                .and_then(|plan| Engine::new(plan, &EngineOptions::new().threads(1)))
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
fn an_arena_that_overflows_is_refused() {
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
