//! The options from the outside: arguments, variables and a file in, options or lines of faults out.

use std::ffi::OsString;

use super::*;

mod accepted;
mod arguments;
mod faults;
mod secrecy;

/// Loads from arguments behind the program's name, variables, and files.
fn try_load(
    arguments: &[&str],
    variables: &[(&str, &str)],
    files: &[(&str, &str)],
) -> Result<Loaded, Faults> {
    let arguments = std::iter::once("waybill").chain(arguments.iter().copied()).map(OsString::from);
    let split = split_arguments(arguments, &["run", "render"]);
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&split.flags, &Given { variables: owned(variables), files: owned(files) })
}

fn with_flags(arguments: &[&str]) -> Loaded {
    try_load(arguments, &[], &[]).unwrap()
}

fn fault_lines(result: Result<Loaded, Faults>) -> Vec<String> {
    result.map(|_| ()).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

fn set(items: &[&str]) -> std::collections::BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}
