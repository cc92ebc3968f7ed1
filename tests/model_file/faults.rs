//! The manifest's faults that every reader of it refuses: a table that the training package is tested with as well.

use super::*;

/// A network of the table with its tensors, as its manifest states it.
fn network(name: &str, stated: &Value) -> ModelFile {
    let manifest = &stated["manifest"];
    let size = |key: &str| manifest["input"][key].as_u64().expect("a size") as usize;
    let image = [size("channels"), size("height"), size("width")];
    let mut network = match manifest["version"].as_u64() {
        Some(1) => Network::new(2, Numbers::Real, image),
        Some(2) => {
            let branches = manifest["branches"].as_array().expect("branches").iter();
            Network::version_2(
                2,
                image,
                &branches.map(|name| name.as_str().expect("a name")).collect::<Vec<_>>(),
            )
        }
        other => panic!("{name}: version {other:?}"),
    };
    for layer in manifest["layers"].as_array().expect("layers") {
        let channels = &stated["channels"][layer["name"].as_str().expect("a name")];
        network.layer(layer.clone(), channels.as_u64().unwrap_or(0) as usize);
    }
    let heads = manifest["heads"].as_object().expect("heads");
    let with_tensor = |(name, head): (&String, &Value)| {
        let mut head = head.clone();
        head.as_object_mut().expect("a head").entry("tensor").or_insert(json!("fc"));
        let rows = head["labels"].as_array().map_or(0, Vec::len);
        (name.clone(), head, rows)
    };
    let heads: Vec<(String, Value, usize)> = heads.iter().map(with_tensor).collect();
    let heads: Vec<(&str, Value, usize)> =
        heads.iter().map(|(name, head, rows)| (name.as_str(), head.clone(), *rows)).collect();
    let mut file = network.heads_of(&heads);
    file.manifest = manifest.clone();
    file.model();
    file
}

/// The file with a fault's change of its manifest.
fn faulty(mut file: ModelFile, fault: &Value) -> Vec<u8> {
    let texts = |key: &str| -> Vec<&str> {
        let array = fault[key].as_array().map(Vec::as_slice).unwrap_or_default();
        array.iter().filter_map(Value::as_str).collect()
    };
    for (pointer, value) in fault["set"].as_object().into_iter().flatten() {
        set(&mut file.manifest, pointer, value.clone());
    }
    texts("remove").into_iter().for_each(|pointer| remove(&mut file.manifest, pointer));
    let mut text = file.manifest.to_string();
    if let [from, to] = texts("replace")[..] {
        assert!(text.contains(from), "{fault}: no {from} in {text}");
        text = text.replacen(from, to, 1);
    }
    if let Some(given) = fault["text"].as_str() {
        text = given.to_owned();
    }
    if let [piece, times] = fault["text_repeated"].as_array().map(Vec::as_slice).unwrap_or_default() {
        text = piece.as_str().expect("text").repeat(times.as_u64().expect("a number") as usize);
    }
    let mut header = file.header();
    header["__metadata__"]["awsnet"] = json!(text);
    container(header.to_string().as_bytes(), &file.data())
}

#[test]
fn every_fault_of_the_table_is_refused_at_its_place() {
    let text = include_str!("faults.json");
    let table: Value = serde_json::from_str(text).expect("JSON");
    let networks = &table["networks"];
    let faults = table["faults"].as_array().expect("faults");
    assert!(faults.len() > 200, "only {} faults", faults.len());
    let mut wrong = Vec::new();
    for fault in faults {
        let word = |key: &str| fault[key].as_str().unwrap_or_else(|| panic!("{fault}: no {key}"));
        let (what, name) = (format!("{}: {}", word("network"), word("what")), word("network"));
        let bytes = faulty(network(name, &networks[name]), fault);
        let Err(error) = Model::from_bytes(&bytes) else {
            wrong.push(format!("{what}: loads"));
            continue;
        };
        wrong.extend(differs(&error, &what, ["place", "expected", "found"].map(word)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
