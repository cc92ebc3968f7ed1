//! The binary, a model, images and folders for tests of the command line.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use awsnet::model::AwsKind;
use awsnet::model::init::{Architecture, InitOptions, init};
use serde_json::Value;

/// The side of the tiny model's image.
pub const SIZE: usize = 24;

/// Cargo's folder for files of integration tests.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// A small model with an AWS-Unit a channel, and one a gate; written once.
pub static MODEL: LazyLock<PathBuf> = LazyLock::new(|| write_model("tiny.safetensors", AwsKind::Channel));
pub static GATED: LazyLock<PathBuf> =
    LazyLock::new(|| write_model("gated.safetensors", AwsKind::Gate(awsnet::model::Gate::Softmax)));

/// Two images for the models; written once.
pub static INPUT: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(FOLDER).join("images.safetensors");
    write_tensor(&path, "image", safetensors::Dtype::F32, &[2, 3, SIZE, SIZE]);
    path
});

fn write_model(name: &str, kind: AwsKind) -> PathBuf {
    let options = InitOptions::new().architecture(Architecture::Tiny).size(SIZE).aws(kind);
    let path = Path::new(FOLDER).join(name);
    std::fs::write(&path, init(&options).expect("a model file")).expect("a writable folder");
    path
}

/// An image that decodes.
pub fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/rgb.png")
}

/// A file of tests/onnx.
pub fn onnx(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(name)
}

/// The binary with arguments; Rust's backtraces would only hide a panic's one line.
pub fn awsnet<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_awsnet"));
    command.args(args).env_remove("RUST_BACKTRACE");
    command
}

/// Arguments of one call, words and paths mixed.
#[macro_export]
macro_rules! call {
    ($($arg:expr),* $(,)?) => {
        $crate::harness::Call::new([$(std::ffi::OsString::from($arg)),*])
    };
}

/// What a call came to.
pub struct Call {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Call {
    pub fn new(args: impl IntoIterator<Item = std::ffi::OsString>) -> Self {
        Call::of(awsnet(args).output().expect("the binary starts"))
    }

    pub fn of(output: Output) -> Self {
        let call = Call {
            code: output.status.code().unwrap_or_else(|| panic!("killed: {:?}", output.status)),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        };
        assert!(!call.stderr.contains("panicked"), "{}", call.stderr);
        call
    }

    /// Checks that all went well, and gives the lines of stdout.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self.stdout.lines().collect()
    }

    /// Checks that all went well with one JSON value on each line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        parse(&self.lines())
    }

    /// Checks a failure: its exit code and the last line on stderr, which begins with `awsnet: `.
    ///
    /// Before it only the notes on why there is no GPU, and on how faces are cut out, may stand. Gives the line.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let note =
            |line: &&str| line.starts_with("awsnet: running on ") || line.contains("how faces are cut out");
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !note(line)).collect();
        assert_eq!(lines.len(), 1, "one line of error: {}", self.stderr);
        lines[0].strip_prefix("awsnet: ").unwrap_or_else(|| panic!("{}", lines[0]))
    }
}

#[track_caller]
pub fn parse(lines: &[&str]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The keys of an object, sorted.
#[track_caller]
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A safetensors file that holds one tensor.
pub fn write_tensor(path: &Path, name: &str, dtype: safetensors::Dtype, shape: &[usize]) {
    let values: Vec<u8> = match dtype {
        safetensors::Dtype::F32 => (0..shape.iter().product::<usize>())
            .flat_map(|i| (((i * 37) % 101) as f32 / 50.0 - 1.0).to_le_bytes())
            .collect(),
        other => vec![0; shape.iter().product::<usize>() * other.bitsize() / 8],
    };
    let view = safetensors::tensor::TensorView::new(dtype, shape.to_vec(), &values).expect("a tensor");
    std::fs::write(path, safetensors::serialize([(name, view)], None).expect("a file"))
        .expect("a writable folder");
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    names
}
