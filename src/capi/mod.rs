//! The C interface: opaque handles, status codes, nothing that unwinds. C programs include `include/awsnet.h`, which
//! cbindgen writes from these files; docs/c-abi.md states the laws.
//!
//! ```text
//! awsnet_model --awsnet_engine_create--> awsnet_engine --awsnet_session_create--> awsnet_session --_run--> buffers
//! awsnet_frame --awsnet_detector_detect--> awsnet_face --awsnet_engine_cut--> an image for a run
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `failure.rs` | status codes, the caller's error struct, the last failure of a thread |
//! | `sink.rs` | the caller's callback for messages |
//! | `guard.rs` | what every export runs in: panics caught, handles poisoned, the error delivered |
//! | `pointers.rs` | from a caller's pointers and sized structs to references and values |
//! | `exclusive.rs` | what one call at a time may use |
//! | `frame.rs` | pictures in the caller's memory |
//! | `model.rs`, `pool.rs`, `engine.rs`, `session.rs`, `detector.rs`, `cut.rs`, `status.rs`, `log.rs`, `version.rs` | the exports, an object each |
//!
//! Only the public interface of the crate is used here. The names are those of C.

#![allow(non_camel_case_types)]
#![allow(unsafe_code, reason = "a caller's pointers, and names that the linker sees")]

#[cfg(not(panic = "unwind"))]
compile_error!("the feature `capi` turns panics into status codes: build with panic = \"unwind\"");

mod cut;
mod detector;
mod engine;
mod exclusive;
mod failure;
mod frame;
mod guard;
mod log;
mod model;
mod pointers;
mod pool;
mod session;
mod sink;
mod status;
mod version;

#[cfg(test)]
mod tests;
