//! What was chosen and prepared, in the application's log where the feature `log` is on, and nowhere else: never in a run,
//! but for the graph that a first run captures.

/// A choice that somebody may wonder at.
macro_rules! info {
    ($($message:tt)*) => {{
        #[cfg(feature = "log")]
        ::log::info!($($message)*);
        #[cfg(not(feature = "log"))]
        let _ = format_args!($($message)*);
    }};
}

/// What was made.
macro_rules! debug {
    ($($message:tt)*) => {{
        #[cfg(feature = "log")]
        ::log::debug!($($message)*);
        #[cfg(not(feature = "log"))]
        let _ = format_args!($($message)*);
    }};
}

#[cfg(feature = "cuda")]
pub(crate) use debug;
pub(crate) use info;
