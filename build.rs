//! Embeds the CUDA kernels: compiles `kernels/` to one fat binary for all architectures, or takes a ready-made one.
//!
//! 1. nvcc, where `AWSNET_NVCC` names it or `AWSNET_CUDA_ARCHS` asks for architectures.
//! 2. `kernels/awsnet.fatbin`, which published packages carry (tools/publish).
//! 3. nvcc: `bin/nvcc` under `CUDA_HOME`, or the one on `PATH`.
//! 4. A placeholder that every driver loads and that holds nothing.
//!
//! | variable | |
//! | --- | --- |
//! | `AWSNET_CUDA` | `require`: a build without kernels is an error; `off`: nothing is compiled; else `auto` |
//! | `AWSNET_NVCC` | the compiler |
//! | `AWSNET_CUDA_ARCHS` | the architectures, as in `80,90a`; by default all that this nvcc knows of [`ARCHITECTURES`] |
//! | `AWSNET_KERNEL_CACHE` | a folder that keeps machine code by its content, for builds that share it; else each has its own |
//!
//! The script runs again when one of the first three changes, the sources, or the nvcc that it took; not when `PATH` or
//! `CUDA_HOME` do, which differ between a shell and an editor. Whoever installs an nvcc later names it, or has the
//! package built anew (`cargo clean -p awsnet`).
//!
//! Every architecture is compiled by an nvcc of its own, at once. Warnings and spills are errors. `OUT_DIR` keeps for
//! each the machine code and the assembler's report (`sm_80.cubin`, `sm_80.log`), for the checks on them, beside what
//! src/cuda/image.rs embeds: `kernels.fatbin` and the names of its architectures.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// What a release serves, machine code each; newer devices translate the PTX of the first.
const ARCHITECTURES: &[&str] = &["80", "86", "89", "90", "90a", "100", "120"];

const FLAGS: &[&str] =
    &["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas=-v,--warn-on-spills,--warning-as-error"];

/// Loads everywhere, holds nothing.
const PLACEHOLDER: &[u8] = b".version 7.0\n.target sm_80\n.address_size 64\n\0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=kernels");
    for variable in ["AWSNET_CUDA", "AWSNET_CUDA_ARCHS", "AWSNET_NVCC"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if let Err(message) = build() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let (fatbin, architectures) = (out.join("kernels.fatbin"), out.join("kernels.fatbin.architectures"));
    let ready = Path::new("kernels/awsnet.fatbin");
    let mode = env::var("AWSNET_CUDA").unwrap_or_else(|_| "auto".to_owned());
    let asked = ["AWSNET_NVCC", "AWSNET_CUDA_ARCHS"].iter().any(|name| env::var_os(name).is_some());
    let nvcc = match mode.as_str() {
        "auto" | "require" if asked || !ready.exists() => find_nvcc()?,
        "auto" | "require" | "off" => None,
        other => return Err(format!("AWSNET_CUDA: expected auto, require or off, found `{other}`")),
    };
    match nvcc {
        Some(nvcc) => {
            println!("cargo::rerun-if-changed={}", nvcc.display());
            write(&architectures, compile(&nvcc, &out, &fatbin)?.as_bytes())
        }
        None if asked && mode != "off" || mode == "require" && !ready.exists() => {
            Err("expected nvcc at AWSNET_NVCC, CUDA_HOME/bin/nvcc or on PATH, found none \
                 (AWSNET_CUDA=require or AWSNET_CUDA_ARCHS asks for it)"
                .to_owned())
        }
        None if ready.exists() => {
            copy(ready, &fatbin)?;
            copy(Path::new("kernels/awsnet.fatbin.architectures"), &architectures)
        }
        None => {
            write(&fatbin, PLACEHOLDER)?;
            write(&architectures, b"")
        }
    }
}

fn find_nvcc() -> Result<Option<PathBuf>, String> {
    if let Some(named) = env::var_os("AWSNET_NVCC").map(PathBuf::from) {
        return match named.is_file() {
            true => Ok(Some(named)),
            false => Err(format!("AWSNET_NVCC: expected a file, found none at {}", named.display())),
        };
    }
    let home = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = home.into_iter().chain(env::split_paths(&path));
    Ok(folders.find_map(|folder| Some(folder.join("nvcc")).filter(|nvcc| nvcc.is_file())))
}

/// Compiles all architectures and joins them; returns their names, the PTX last, as in `sm_80 sm_90 compute_80`.
fn compile(nvcc: &Path, out: &Path, fatbin: &Path) -> Result<String, String> {
    let version = run(Command::new(nvcc).arg("--version"))?;
    let sources = sources()?;
    let unit: String =
        sources.keys().filter(|name| name.ends_with(".cu")).map(|n| format!("#include <{n}>\n")).collect();
    let unit_file = out.join("kernels.cu");
    write(&unit_file, unit.as_bytes())?;

    let architectures = architectures(nvcc)?;
    let lowest = architectures.first().ok_or("AWSNET_CUDA_ARCHS names no architecture")?.clone();
    let mut codes: Vec<Code> = architectures.into_iter().map(|virt| Code { real: true, virt }).collect();
    codes.push(Code { real: false, virt: lowest });

    let cache = env::var_os("AWSNET_KERNEL_CACHE").map_or_else(|| out.join("cache"), PathBuf::from);
    fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    std::thread::scope(|scope| {
        let jobs: Vec<_> = codes
            .iter()
            .map(|code| scope.spawn(|| compile_one(nvcc, code, &unit_file, &sources, &version, &cache, out)))
            .collect();
        jobs.into_iter().try_for_each(|job| job.join().expect("a compiling thread does not panic"))
    })?;

    let mut join = Command::new(nvcc.with_file_name("fatbinary"));
    join.arg("-64").arg("--compress=false").arg(format!("--create={}", fatbin.display()));
    for code in &codes {
        let file = out.join(code.file());
        let kind = if code.real { "elf" } else { "ptx" };
        join.arg(format!("--image3=kind={kind},sm={},file={}", code.virt, file.display()));
    }
    run(&mut join)?;
    Ok(codes.iter().map(Code::name).collect::<Vec<_>>().join(" "))
}

/// Machine code of an architecture, or PTX for it.
struct Code {
    real: bool,
    virt: String,
}

impl Code {
    fn name(&self) -> String {
        format!("{}_{}", if self.real { "sm" } else { "compute" }, self.virt)
    }

    fn file(&self) -> String {
        format!("{}.{}", self.name(), if self.real { "cubin" } else { "ptx" })
    }
}

fn compile_one(
    nvcc: &Path,
    code: &Code,
    unit: &Path,
    sources: &BTreeMap<String, Vec<u8>>,
    version: &str,
    cache: &Path,
    out: &Path,
) -> Result<(), String> {
    let mut hasher = DefaultHasher::new();
    (sources, version, FLAGS, code.name()).hash(&mut hasher);
    let cached = cache.join(format!("{:016x}", hasher.finish()));
    let cached_log = cached.with_extension("log");
    let file = out.join(code.file());
    let log_file = out.join(format!("{}.log", code.name()));
    if !(cached.exists() && cached_log.exists()) {
        let mut command = Command::new(nvcc);
        command.args(FLAGS).arg("-Ikernels");
        command.arg("-gencode").arg(format!("arch=compute_{},code={}", code.virt, code.name()));
        command.arg(if code.real { "-cubin" } else { "-ptx" }).arg(unit).arg("-o").arg(&file);
        let log = run(&mut command)?;
        write(&log_file, log.as_bytes())?;
        // The log last: whoever finds it finds all of the machine code. Renamed into place, so never half of it.
        for (from, to) in [(&file, &cached), (&log_file, &cached_log)] {
            let part = to.with_extension(format!("{}.part", std::process::id()));
            copy(from, &part)?;
            fs::rename(&part, to).map_err(|e| format!("{}: {e}", to.display()))?;
        }
        return Ok(());
    }
    copy(&cached, &file)?;
    copy(&cached_log, &log_file)
}

/// `AWSNET_CUDA_ARCHS`, or what this nvcc knows of the default ones.
fn architectures(nvcc: &Path) -> Result<Vec<String>, String> {
    if let Ok(list) = env::var("AWSNET_CUDA_ARCHS") {
        return Ok(list.split(',').map(|a| a.trim().to_owned()).filter(|a| !a.is_empty()).collect());
    }
    let known = run(Command::new(nvcc).arg("--list-gpu-code"))?;
    let known: Vec<&str> = known.split_whitespace().collect();
    // The list leaves the architecture-specific forms (90a) out; they come with their plain form.
    let knows = |a: &&&str| known.contains(&format!("sm_{}", a.trim_end_matches('a')).as_str());
    Ok(ARCHITECTURES.iter().filter(knows).map(|a| (*a).to_owned()).collect())
}

/// Every source file under kernels/, by its path there.
fn sources() -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut all = BTreeMap::new();
    for folder in ["kernels", "kernels/device"] {
        let entries = fs::read_dir(folder).map_err(|e| format!("{folder}: {e}"))?;
        for entry in entries {
            let path = entry.map_err(|e| format!("{folder}: {e}"))?.path();
            if path.extension().is_some_and(|e| e == "cu" || e == "h") {
                let name = path.strip_prefix("kernels").unwrap_or(&path).to_string_lossy().into_owned();
                all.insert(name, fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?);
            }
        }
    }
    Ok(all)
}

/// Runs a command; its output, both streams, or the same as an error.
fn run(command: &mut Command) -> Result<String, String> {
    let shown = Path::new(command.get_program())
        .file_name()
        .unwrap_or(OsStr::new("?"))
        .to_string_lossy()
        .into_owned();
    let output = command.output().map_err(|e| format!("{shown}: {e}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => {
            let told: Vec<&str> = text.lines().filter(|line| !line.contains("ptxas info")).collect();
            Err(format!("{shown} failed:\n{}", told.join("\n")))
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}
