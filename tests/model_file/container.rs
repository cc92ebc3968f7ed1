//! The container: a table.

use super::*;

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
