//! Where a test program finds what it needs: in the repository, or in a bundle for a machine that has a GPU and no Rust
//! (tools/bundle).
//!
//! | variable | |
//! | --- | --- |
//! | `AWSNET_TEST_HOME` | the folder that stands for the repository: `tests/golden` and `bin/awsnet` are looked for there |
//! | `AWSNET_TEST_DRIVER` | the CUDA driver to load: a path, or `libcuda.so.1` for the one that the machine's loader finds; without it the emulated driver is built |

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn moved() -> Option<PathBuf> {
    std::env::var_os("AWSNET_TEST_HOME").map(PathBuf::from)
}

/// The repository's root, or what stands for it.
pub fn home() -> PathBuf {
    moved().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")))
}

/// The golden model files, in the order of their names.
pub fn golden_models() -> Vec<PathBuf> {
    let folder = home().join("tests/golden");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut models: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.to_string_lossy().ends_with(".model.safetensors"))
        .collect();
    models.sort();
    assert!(models.len() > 20, "{} golden models in {}", models.len(), folder.display());
    models
}

/// A program of the crate: where cargo built it, or in `bin` where the tests have moved.
pub fn program(built: &str) -> PathBuf {
    let built = Path::new(built);
    moved().map_or(built.to_owned(), |home| home.join("bin").join(built.file_name().expect("a program")))
}

/// A folder to write to, which is there.
pub fn scratch(name: &str) -> PathBuf {
    let folder = match moved() {
        Some(_) => std::env::temp_dir().join(format!("awsnet-test-{}", std::process::id())),
        None => PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    };
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    folder
}

/// Builds the emulated driver with `tools/emulated-driver`; the path of the library.
pub fn emulated_driver(arguments: &[&str]) -> PathBuf {
    let tool = home().join("tools/emulated-driver");
    let output = Command::new(&tool)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{}, or AWSNET_TEST_DRIVER: {e}", tool.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = String::from_utf8(output.stdout).expect("a path");
    Path::new(folder.trim_end()).join("libcuda.so.1")
}

/// The driver under test, built at most once a process: a path, or a name for the loader.
pub fn driver() -> &'static Path {
    static DRIVER: OnceLock<PathBuf> = OnceLock::new();
    DRIVER.get_or_init(|| match std::env::var_os("AWSNET_TEST_DRIVER") {
        Some(driver) => PathBuf::from(driver),
        None => emulated_driver(&[]),
    })
}
