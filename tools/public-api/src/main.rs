//! Prints the public interface that a file of rustdoc's JSON describes, an item a line.

use std::error::Error;

/// Traits that the compiler implements by itself; of these only `Send` and `Sync` are somebody's reason to use a type.
const UNTOLD: [&str; 5] = ["Freeze", "RefUnwindSafe", "Unpin", "UnsafeUnpin", "UnwindSafe"];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("expected the path of a JSON file, found none")?;
    let api = public_api::Builder::from_rustdoc_json(path).omit_blanket_impls(true).build()?;
    for item in api.items().map(ToString::to_string) {
        if !UNTOLD.iter().any(|name| item.starts_with("impl") && item.contains(&format!("::{name} for "))) {
            println!("{item}");
        }
    }
    Ok(())
}
