//! The thread team, `src/cpu/team.rs`, its pool and its bell, in every order in which its members' accesses to memory may
//! take effect.
//!
//! loom runs a model again and again, each time in another order that the memory model allows, and fails where an
//! access is not ordered behind a write that it needs, where all threads wait, and where something leaks. The job of
//! these models is all plain memory, which only the team's own atomics order:
//!
//! ```text
//! the job's cells      written by the caller before and after each run, and gone with it: a member must see them, and must
//!                      not look at them without a task
//! a task's cell        written once a run, by whoever takes the task: each task is taken once
//! all cells of a step  read by every task of the next step: the steps follow one another
//! ```
//!
//! A model without a bound runs all orders; with one, those in which threads are preempted so often at most. Neither
//! runs orders that differ only in how often a member waits in vain; see `cpu/sync.rs`.

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the team makes errors, and reads none")]
mod error;

#[path = "../../../src/float_environment.rs"]
mod float_environment;

mod cpu {
    #[path = "../../../../src/cpu/bell.rs"]
    mod bell;
    #[path = "../../../../src/cpu/pool.rs"]
    #[allow(dead_code, reason = "some of it is for those who ask the library")]
    mod pool;
    mod sync;
    #[path = "../../../../src/cpu/team.rs"]
    #[allow(dead_code, reason = "some of it is for those who ask the library")]
    mod team;

    pub(crate) mod models;
}

fn main() {
    cpu::models::all();
}
