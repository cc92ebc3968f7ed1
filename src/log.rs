//! What was chosen and prepared, in the application's log where the feature `log` is on, and nowhere else: never in a run,
//! but for the graph that a first run captures.

/// A line of a level: `info` for a choice that somebody may wonder at, `debug` for what was made.
macro_rules! log {
    ($level:ident, $($message:tt)*) => {{
        #[cfg(feature = "log")]
        ::log::$level!($($message)*);
        #[cfg(not(feature = "log"))]
        let _ = format_args!($($message)*);
    }};
}

pub(crate) use log;
