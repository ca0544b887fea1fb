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
) -> Result<Loaded, OptionFaults> {
    let arguments = std::iter::once("waybill").chain(arguments.iter().copied()).map(OsString::from);
    let split = split_arguments(arguments, &["run", "render"]);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    load_with(&split.flags, &variables, Path::new("/sa/namespace"), &read)
}

fn with_flags(arguments: &[&str]) -> Loaded {
    try_load(arguments, &[], &[]).unwrap()
}

fn fault_lines(result: Result<Loaded, OptionFaults>) -> Vec<String> {
    result.map(|_| ()).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

fn set(items: &[&str]) -> std::collections::BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}
