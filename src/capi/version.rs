//! Which library this is.

use std::ffi::c_char;

use super::guard::guard_value;

/// The version of this interface, which the SONAME carries too. It changes only when a program compiled against an
/// older header would break.
pub const AWSNET_ABI_VERSION: u32 = 1;

/// The AWSNET_ABI_VERSION of the library that is loaded. A program that loads it by hand compares this with the one
/// it was compiled with.
#[unsafe(no_mangle)]
pub extern "C" fn awsnet_abi_version() -> u32 {
    guard_value(0, || AWSNET_ABI_VERSION)
}

/// The version of the library that is loaded, as in "0.1.0". Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn awsnet_version() -> *const c_char {
    guard_value(c"".as_ptr(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}
