//! Tensors: a table, and numbers that are not finite.

use super::*;

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
fn a_number_that_is_not_finite_is_refused_in_every_kind_of_tensor() {
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
