//! libawsnet as a C program meets it: built once, linked by gcc, run as a process of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use awsnet::model::init::{Architecture, InitOptions, init};
use serde_json::Value;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder that holds libawsnet.so and libawsnet.a. They are built apart from everything else, because cargo builds a
/// Rust library here unless told otherwise.
pub fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // target/<profile>/deps/capi-<hash>
        let this = std::env::current_exe().expect("this program");
        let target = this.ancestors().nth(3).expect("a target folder").join("capi");
        let output = Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["rustc", "--lib", "--crate-type", "cdylib,staticlib", "--locked", "--quiet"])
            .args(["--no-default-features", "--features", "capi,cuda", "--target-dir"])
            .arg(&target)
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .env("CARGO_INCREMENTAL", "0") // half a minute from nothing, and the tests from nothing are the common case
            .env("AWSNET_CUDA", "off") // no C test runs a kernel that nvcc has compiled
            .output()
            .expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("debug")
    })
}

/// How a program is compiled.
#[derive(Clone, Copy)]
pub struct Language {
    pub compiler: &'static str,
    pub standard: &'static str,
}

pub const C99: Language = Language { compiler: "gcc", standard: "-std=c99" };
pub const CPP17: Language = Language { compiler: "g++", standard: "-std=c++17" };

/// Compiles a source file against the header, every warning an error.
pub fn compiler(language: Language) -> Command {
    let mut command = Command::new(language.compiler);
    command.args([language.standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-pthread"]);
    command.arg("-D_POSIX_C_SOURCE=200809L").arg("-I").arg(root().join("include"));
    command
}

/// The output of a command that succeeds.
pub fn success(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A program linked against libawsnet.so, and the folder it lives in.
pub struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    /// From a source in tests/capi/programs.
    pub fn new(name: &str, flags: &[&str]) -> Self {
        Program::of(&root().join("tests/capi/programs").join(name), flags)
    }

    pub fn of(source: &Path, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let library = library();
        let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
        rpath.push(library);
        let language = if source.extension() == Some(OsStr::new("cpp")) { CPP17 } else { C99 };
        success(
            compiler(language)
                .args(flags)
                .arg(source)
                .arg("-o")
                .arg(folder.path().join("program"))
                .arg("-L")
                .arg(library)
                .args(["-l:libawsnet.so", "-lm"])
                .arg(rpath),
        );
        Program { folder }
    }

    pub fn command(&self) -> Command {
        Command::new(self.folder.path().join("program"))
    }

    /// What it prints, where it ends well.
    pub fn run(&self, arguments: &[&OsStr]) -> String {
        let output = success(self.command().args(arguments));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// A network with random weights, as a file.
pub struct ModelFile {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl ModelFile {
    pub fn new(architecture: Architecture, size: usize) -> Self {
        ModelFile::with_bytes(
            init(&InitOptions::new().architecture(architecture).size(size)).expect("a model"),
        )
    }

    /// A copy of a file of the repository.
    pub fn of(path: &str) -> Self {
        ModelFile::with_bytes(std::fs::read(root().join(path)).expect("a model file"))
    }

    /// The same network, of version 2, whose file says otherwise how faces are cut out.
    pub fn with_face(&self, face: &Value) -> Self {
        let (len, rest) = self.bytes.split_at(8);
        let len = u64::from_le_bytes(len.try_into().expect("8 bytes")) as usize;
        let (header, tensors) = rest.split_at(len);
        let mut header: Value = serde_json::from_slice(header).expect("a header");
        let text = header["__metadata__"]["awsnet"].as_str().expect("a manifest");
        let mut manifest: Value = serde_json::from_str(text).expect("a manifest");
        manifest["input"]["face"] = face.clone();
        header["__metadata__"]["awsnet"] = manifest.to_string().into();
        let mut header = header.to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        ModelFile::with_bytes([&(header.len() as u64).to_le_bytes(), &*header, tensors].concat())
    }

    fn with_bytes(bytes: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, &bytes).expect("to write a model");
        ModelFile { _folder: folder, path, bytes }
    }
}
