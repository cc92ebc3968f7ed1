//! Model files.

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;

use super::failure::{Failure, awsnet_error, awsnet_status};
use super::guard::{Handle, Poison, destroy, guard};
use super::pointers::{check, slice, string};
use crate::Model;

/// A network as its file states it. Immutable: any number of threads may use one at once.
pub struct awsnet_model {
    poison: Poison,
    pub(super) model: Model,
}

impl Handle for awsnet_model {
    const NAME: &'static str = "model";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// Reads a model file (.safetensors). path: the system's bytes; on Windows, UTF-8.
///
/// AWSNET_STATUS_FILE, AWSNET_STATUS_MODEL, AWSNET_STATUS_MEMORY: the message says where in the file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_model_load(
    path: *const c_char,
    model: *mut *mut awsnet_model,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = || {
        // SAFETY: by the caller's word.
        let path = unsafe { string(path, "path") }?;
        check(model, "model")?;
        let loaded = Model::load(to_path(path)?)?;
        // SAFETY: checked above; writable by the caller's word.
        unsafe { model.write(new_handle(loaded)) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard(error, body) }
}

/// Reads a model file that is in memory: size bytes, which may be freed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_model_load_bytes(
    bytes: *const c_void,
    size: usize,
    model: *mut *mut awsnet_model,
    error: *mut awsnet_error,
) -> awsnet_status {
    let body = || {
        // SAFETY: by the caller's word.
        let bytes = unsafe { slice(bytes.cast::<u8>(), size, "bytes") }?;
        check(model, "model")?;
        let loaded = Model::from_bytes(bytes)?;
        // SAFETY: checked above; writable by the caller's word.
        unsafe { model.write(new_handle(loaded)) };
        Ok(())
    };
    // SAFETY: by the caller's word.
    unsafe { guard(error, body) }
}

/// Frees a model; NULL is none. Engines made from it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn awsnet_model_destroy(model: *mut awsnet_model) -> awsnet_status {
    // SAFETY: by the caller's word.
    unsafe { destroy(model) }
}

fn new_handle(model: Model) -> *mut awsnet_model {
    Box::into_raw(Box::new(awsnet_model { poison: Poison::default(), model }))
}

#[cfg(unix)]
fn to_path(path: &CStr) -> Result<PathBuf, Failure> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

#[cfg(not(unix))]
fn to_path(path: &CStr) -> Result<PathBuf, Failure> {
    let path = path.to_str().map_err(|_| Failure::argument("path", "UTF-8", "other bytes"))?;
    Ok(PathBuf::from(path))
}
