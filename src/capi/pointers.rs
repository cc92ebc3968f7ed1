//! From what a caller passes to references and values. Each function checks what can be checked, NULL and alignment,
//! and takes the caller's word for the rest.

use std::ffi::{CStr, c_char};

use super::failure::Failure;

/// Refuses NULL and what is not aligned.
pub(super) fn check<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(name, "a pointer", "NULL"));
    }
    if !pointer.is_aligned() {
        let expected = format!("a pointer aligned to {} bytes", align_of::<T>());
        return Err(Failure::argument(name, &expected, &format!("{pointer:p}")));
    }
    Ok(())
}

/// What `pointer` points to.
///
/// # Safety
///
/// Unless it is NULL or unaligned, `pointer` points to a `T` that nobody changes or frees during `'a`.
pub(super) unsafe fn shared<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check(pointer, name)?;
    // SAFETY: neither NULL nor unaligned, checked above; the rest is the caller's word.
    Ok(unsafe { &*pointer })
}

/// `len` values from `pointer` on.
///
/// # Safety
///
/// Unless it is NULL or unaligned, `pointer` points to `len` values that nobody changes or frees during `'a`.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T], Failure> {
    check(pointer, name)?;
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::argument(name, "a length that fits in memory", &format!("{len} values")));
    }
    // SAFETY: neither NULL nor unaligned nor too long, checked above; the rest is the caller's word.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// A string that ends with NUL.
///
/// # Safety
///
/// Unless it is NULL, `pointer` points to a string with a NUL at its end that nobody changes or frees during `'a`.
pub(super) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Result<&'a CStr, Failure> {
    check(pointer, name)?;
    // SAFETY: not NULL, checked above; the rest is the caller's word.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// A struct of the interface: begins with its size in bytes as the caller was compiled, and gains fields at its end
/// only. A field that is not there reads as zero.
///
/// # Safety
///
/// `repr(C)`, the first field a u32, and every value of its bytes is a valid one.
pub(super) unsafe trait Versioned: Copy {
    /// Its size in the first version of the interface: no caller has a smaller one.
    const FIRST_SIZE: usize;
}

/// A larger struct than this is one whose size was never set.
const MAX_STRUCT_SIZE: usize = 4096;

/// The size that a caller's struct says it has.
///
/// # Safety
///
/// Unless it is NULL or unaligned, `pointer` points to a u32 at least.
unsafe fn struct_size<T: Versioned>(pointer: *const T, name: &str) -> Result<usize, Failure> {
    // A struct may have grown fields that are aligned to more than its first ones are: it is copied byte by byte.
    let pointer = pointer.cast::<u32>();
    check(pointer, name)?;
    // SAFETY: a `T` begins with its size, by the trait's contract.
    let size = unsafe { pointer.read() } as usize;
    if !(T::FIRST_SIZE..=MAX_STRUCT_SIZE).contains(&size) {
        let expected = format!("its size in bytes, at least {}", T::FIRST_SIZE);
        return Err(Failure::argument(&format!("{name}.struct_size"), &expected, &size.to_string()));
    }
    Ok(size)
}

/// A copy of the caller's struct. One from a newer header is taken as long as it asks for nothing that this library does
/// not know: what lies beyond must be zero.
///
/// # Safety
///
/// Unless it is NULL or unaligned, `pointer` points to as many readable bytes as the struct says.
pub(super) unsafe fn read_struct<T: Versioned>(pointer: *const T, name: &str) -> Result<T, Failure> {
    // SAFETY: passed on.
    let size = unsafe { struct_size(pointer, name) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: all bytes zero is a valid value, by the trait's contract.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: both have `known` bytes, and `value` is ours.
    unsafe { (&raw mut value).cast::<u8>().copy_from_nonoverlapping(pointer.cast(), known) };
    // SAFETY: the caller's struct has `size` bytes.
    let beyond = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if beyond.iter().any(|&byte| byte != 0) {
        let expected = format!("fields up to {} bytes, all that this version knows", size_of::<T>());
        return Err(Failure::argument(name, &expected, "one set beyond them"));
    }
    Ok(value)
}

/// Fills the caller's struct, as far as both sides know it; its `struct_size` stays.
///
/// # Safety
///
/// Unless it is NULL or unaligned, `pointer` points to as many writable bytes as the struct says.
pub(super) unsafe fn write_struct<T: Versioned>(
    pointer: *mut T,
    name: &str,
    value: T,
) -> Result<(), Failure> {
    // SAFETY: passed on.
    let size = unsafe { struct_size(pointer, name) }?;
    let known = size.min(size_of::<T>());
    let first = size_of::<u32>();
    let from = (&raw const value).cast::<u8>();
    // SAFETY: both have `known` bytes, at least `FIRST_SIZE`, which is more than a u32; `value` is ours.
    unsafe { pointer.cast::<u8>().add(first).copy_from_nonoverlapping(from.add(first), known - first) };
    Ok(())
}
