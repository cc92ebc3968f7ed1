//! The options of the commands that run a model.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use awsnet::{Device, Engine, EngineOptions, Error, Model, Plan, PlanOptions, Precision, Target};

use crate::failure::{Failure, shown};
use crate::{files, output};

/// Options of every command that runs a model.
#[derive(clap::Args)]
pub struct RunOptions {
    /// Where to run: auto, cpu, reference, cuda or cuda:N
    #[arg(long, default_value = "auto", value_parser = parse::<Device>)]
    pub device: Device,

    /// Type of the feature maps: f32, f16 or bf16 [default: f32 on the CPU, f16 on a GPU]
    #[arg(long, value_parser = parse::<Precision>)]
    pub precision: Option<Precision>,

    /// Threads [default: as many as the network can use]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// A value of the library's, as clap wants to hear of it.
pub fn parse<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: Error| format!("expected {}", e.expected()))
}

impl RunOptions {
    /// The target on this machine; says once why `auto` takes no GPU.
    pub fn target(&self) -> Result<Target, Failure> {
        let resolved = self.device.resolve()?;
        static TOLD: AtomicBool = AtomicBool::new(false);
        if let Some(note) = resolved.note
            && !TOLD.swap(true, Ordering::Relaxed)
        {
            output::remark(&format!("running on {}: {note}", resolved.target));
        }
        Ok(resolved.target)
    }

    pub fn threads(&self) -> usize {
        self.threads.map_or(0, |threads| threads as usize)
    }

    /// How to plan for this machine, with the tuning that AWSNET_TUNE names.
    pub fn plan_options(&self, batch: u32) -> Result<PlanOptions, Failure> {
        Ok(PlanOptions::new()
            .target(self.target()?)
            .precision(self.precision)
            .batch(batch as usize)
            .tuning(awsnet::tune::from_env()?))
    }

    /// A plan for this machine.
    pub fn plan(&self, model: Model, batch: u32) -> Result<Plan, Failure> {
        Ok(Plan::build(model, &self.plan_options(batch)?)?)
    }

    /// An engine for this machine.
    pub fn engine(&self, model: Model, batch: u32) -> Result<Engine, Failure> {
        Ok(Engine::new(self.plan(model, batch)?, &EngineOptions::new().threads(self.threads()))?)
    }
}

/// A model file to load.
#[derive(clap::Args)]
pub struct ModelPath {
    /// The model file (.safetensors), or - for standard input
    #[arg(value_name = "MODEL")]
    pub path: PathBuf,
}

impl ModelPath {
    pub fn load(&self) -> Result<Model, Failure> {
        match files::piped(&self.path) {
            Some(bytes) => Model::from_bytes(&bytes.map_err(Failure::failed)?)
                .map_err(|error| Failure::failed(format!("{}: {error}", shown(&self.path)))),
            None => Ok(Model::load(&self.path)?),
        }
    }

    /// The model's name, or its file's.
    pub fn title(&self, model: &Model) -> String {
        let stem = || self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        model.name().filter(|name| !name.is_empty()).map_or_else(stem, str::to_owned)
    }
}
