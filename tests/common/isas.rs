//! The instruction sets that tests run, and a word on those that they cannot.
//!
//! | variable | |
//! | --- | --- |
//! | `AWSNET_REQUIRE_ISA` | instruction sets, such as `avx512,avx2`, without which the tests fail instead |

use std::io::Write;
use std::sync::Once;

use awsnet::Isa;

/// The instruction sets of this machine, the widest first. The first call of a process says which others are not tested.
pub fn isas() -> impl Iterator<Item = Isa> {
    static SAID: Once = Once::new();
    let name = |isa: Isa| isa.to_string();
    let missing: Vec<String> = Isa::ALL.iter().copied().filter(|isa| !isa.is_available()).map(name).collect();
    let required = std::env::var("AWSNET_REQUIRE_ISA").unwrap_or_default();
    for required in required.split(',').filter(|required| !required.is_empty()) {
        let known: Vec<String> = Isa::ALL.iter().copied().map(name).collect();
        assert!(
            known.iter().any(|isa| isa == required),
            "AWSNET_REQUIRE_ISA: expected some of {known:?}, found {required:?}"
        );
        assert!(
            missing.iter().all(|isa| isa != required),
            "AWSNET_REQUIRE_ISA: expected a machine with {required}, found one without {missing:?}"
        );
    }
    SAID.call_once(|| {
        if !missing.is_empty() {
            // Not by a macro: the harness keeps to itself what the macros of passing tests print.
            let _ = writeln!(std::io::stderr(), "NOT TESTED: this machine has no {}", missing.join(", no "));
        }
    });
    Isa::ALL.iter().copied().filter(|isa| isa.is_available())
}
