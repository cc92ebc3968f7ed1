//! How much memory the machine could still give.

/// Bytes that can be had without swapping, where the system tells; an allocation beyond them would succeed on
/// many systems and end the process later, when it is touched.
pub(crate) fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
