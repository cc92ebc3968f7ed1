//! The C interface as C programs meet it: the header, the exported symbols, wrong calls, threads, memory. What only the
//! inside can show is tested in src/capi; what needs more than gcc (an installed library, CMake, valgrind, Python) is the
//! step `capi` of .ci/run.

mod header;
mod library;
mod null;
mod programs;
mod source;
