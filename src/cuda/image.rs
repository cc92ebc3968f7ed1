//! The kernels as the build embedded them (build.rs).

/// Aligned as the driver reads it.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin")));

/// A module for the driver: a fat binary, or, in a build without nvcc, a placeholder that loads and holds no kernel.
pub fn image() -> &'static [u8] {
    &EMBEDDED.0
}

/// What the kernels were compiled for, as in `sm_80`, with `compute_80` for PTX; empty in a build without nvcc.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    include_str!(concat!(env!("OUT_DIR"), "/kernels.fatbin.architectures")).split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_what_the_architectures_say() {
        let fat_binary = image().starts_with(&0xBA55_ED50u32.to_le_bytes());
        assert_eq!(fat_binary, architectures().count() > 0);
        assert_eq!(image().starts_with(b".version"), !fat_binary);
        assert_eq!(image().as_ptr() as usize % 64, 0);
    }
}
