//! A valid file cut, flipped or overwritten anywhere.

use super::*;

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
