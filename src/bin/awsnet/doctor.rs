//! `awsnet doctor`: what this machine has, and what `auto` makes of it.

use awsnet::{Device, Isa, cuda};
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::output::Results;

/// Say what this machine has: driver, devices, embedded kernels, CPU features, and what `auto` would choose and why
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Outcome {
    let driver = cuda::probe();
    let architectures = cuda::embedded_architectures();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let isas: Vec<String> =
        Isa::ALL.iter().copied().filter(|isa| isa.is_available()).map(|isa| isa.to_string()).collect();
    let resolved = Device::Auto.resolve()?;
    let auto = match resolved.target {
        awsnet::Target::Cpu(_) => "cpu".to_owned(),
        awsnet::Target::Cuda(awsnet::Gpu { ordinal: Some(ordinal), .. }) => format!("cuda:{ordinal}"),
        other => other.to_string(),
    };
    let mut results = Results::new();
    if args.json {
        let devices: Vec<Value> = driver
            .iter()
            .flat_map(|driver| driver.devices.iter().map(move |device| (driver, device)))
            .map(|(driver, device)| {
                let unusable = cuda::usable(driver, device.ordinal).err().map(|error| error.to_string());
                json!({"device": format!("cuda:{}", device.ordinal), "name": device.name,
                       "capability": format!("{}.{}", device.capability.0, device.capability.1),
                       "memory_bytes": device.memory_bytes, "error": unusable})
            })
            .collect();
        let driver = match &driver {
            Ok(driver) => json!({"cuda_version": format!("{}.{}", driver.version.0, driver.version.1)}),
            Err(error) => json!({"error": error.to_string()}),
        };
        return results.json(&json!({
            "driver": driver,
            "devices": devices,
            "kernels": {"compiled": !architectures.is_empty(), "architectures": architectures},
            "cpu": {"architecture": std::env::consts::ARCH, "instruction_sets": isas, "threads": threads},
            "auto": auto,
            "reason": resolved.note,
        }));
    }
    let mut lines = Vec::new();
    match &driver {
        Ok(driver) => {
            lines.push(format!("driver    NVIDIA, for CUDA up to {}.{}", driver.version.0, driver.version.1));
            for device in &driver.devices {
                let (major, minor) = device.capability;
                let gigabytes = device.memory_bytes as f64 / 1e9;
                lines.push(format!(
                    "cuda:{}    {}, compute capability {major}.{minor}, {gigabytes:.1} GB",
                    device.ordinal, device.name
                ));
                if let Err(error) = cuda::usable(driver, device.ordinal) {
                    lines.push(format!("          cannot be used: {error}"));
                }
            }
        }
        Err(error) => lines.push(format!("driver    none that works: {error}")),
    }
    lines.push(match &architectures[..] {
        [] => "kernels   no CUDA kernels in this build: it found no nvcc".to_owned(),
        some => format!("kernels   CUDA, for {}", some.join(", ")),
    });
    lines.push(format!("cpu       {}: {}; {threads} threads", std::env::consts::ARCH, isas.join(", ")));
    let reason = resolved.note.map_or(String::new(), |note| format!(": {note}"));
    lines.push(format!("auto      takes {}{reason}", resolved.target));
    results.line(&lines.join("\n"))
}
