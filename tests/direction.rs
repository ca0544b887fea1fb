//! The modules use each other in one direction, as the table in docs/design.md says, and what they show to each other
//! is documented.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Visibility};

/// Names that still stand for two types or more.
#[rustfmt::skip]
const KNOWN_NAMES: &[&str] = &[
    "Shards",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file of `src/`, without its tests.
struct Source {
    /// Below `src/`.
    path: String,
    /// `operator::live` as a list; empty for lib.rs and main.rs.
    module: Vec<String>,
    syntax: syn::File,
}

impl Source {
    /// The modules that it names: the full paths of everything that begins with `crate` or `super`.
    fn uses(&self) -> BTreeSet<Vec<String>> {
        let mut paths = BTreeSet::new();
        let tokens = quote::ToTokens::to_token_stream(&self.syntax);
        collect(tokens, &self.module, &mut paths);
        paths
    }
}

/// Reads every file that is not a test. Items behind `#[cfg(test)]` are left out.
fn sources() -> Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                found.push(source(&path)?);
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_test(path: &Path) -> bool {
    let inside = path.strip_prefix(root()).unwrap_or(path);
    inside.components().any(|part| part.as_os_str() == "tests")
        || inside.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

fn source(path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path)?;
    let mut syntax = syn::parse_file(&text).with_context(|| path.display().to_string())?;
    syntax.items.retain(|item| !is_for_tests(attributes(item)));
    let below = path.strip_prefix(root().join("src"))?;
    let mut module: Vec<String> = below.with_extension("").iter().map(text_of).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    Ok(Source { path: below.iter().map(text_of).collect::<Vec<_>>().join("/"), module, syntax })
}

fn text_of(part: &std::ffi::OsStr) -> String {
    part.to_string_lossy().into_owned()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Finds the paths that begin with `crate`, `super` or `self`, inside of macros as well. `from` is where they stand.
fn collect(tokens: TokenStream, from: &[String], paths: &mut BTreeSet<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => collect(group.stream(), from, paths),
            TokenTree::Ident(word) if !is_path_separator(&tokens, at.wrapping_sub(2)) => {
                let base = match word.to_string().as_str() {
                    "crate" => Some(Vec::new()),
                    "self" => Some(from.to_vec()),
                    "super" => Some(from[..from.len().saturating_sub(1)].to_vec()),
                    _ => None,
                };
                if let Some(base) = base.filter(|_| is_path_separator(&tokens, at + 1)) {
                    follow(&tokens[at + 1..], base, paths);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    colon(at) && colon(at.wrapping_add(1))
}

/// Follows a path from a `::` on, into the braces of a `use` too.
fn follow(tokens: &[TokenTree], mut path: Vec<String>, paths: &mut BTreeSet<Vec<String>>) {
    let mut at = 0;
    while is_path_separator(tokens, at) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(word)) if *word == "super" => {
                path.pop();
            }
            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in
                    inside.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','))
                {
                    match part.first() {
                        Some(TokenTree::Ident(word)) if *word != "self" => {
                            let mut path = path.clone();
                            path.push(word.to_string());
                            follow(&part[1..], path, paths);
                        }
                        _ => {
                            paths.insert(path.clone());
                        }
                    }
                }
                return;
            }
            _ => break,
        }
        at += 3;
    }
    paths.insert(path);
}

/// The table: what each module may use.
fn table() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = fs::read_to_string(root().join("docs/design.md"))?;
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| module | "));
    lines.next().context("docs/design.md has no table that begins with \"| module | \"")?;
    let mut table = BTreeMap::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let allowed: BTreeSet<String> =
            names(cells.last().copied().unwrap_or_default()).into_iter().collect();
        for module in names(cells[0]) {
            anyhow::ensure!(
                table.insert(module.clone(), allowed.clone()).is_none(),
                "{module} is there twice"
            );
        }
    }
    Ok(table)
}

/// Everything that `allowed` leads to, over any number of arrows.
fn reachable(table: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(module) = open.pop() {
        for next in table.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn the_table_names_every_module_and_has_no_circle() -> Result<()> {
    let table = table()?;
    let modules: BTreeSet<String> =
        sources()?.into_iter().filter_map(|source| source.module.into_iter().next()).collect();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), modules);
    for (module, allowed) in &table {
        let unknown: Vec<_> = allowed.difference(&modules).collect();
        assert!(unknown.is_empty(), "{module} may use modules that are not there: {unknown:?}");
        assert!(!reachable(&table, module).contains(module), "{module} may use itself by a detour");
    }
    Ok(())
}

#[test]
fn modules_use_only_what_the_table_allows() -> Result<()> {
    let table = table()?;
    let mut wrong = BTreeSet::new();
    for source in sources()? {
        let Some(own) = source.module.first() else { continue };
        for path in source.uses() {
            if let Some(used) = path.first()
                && used != own
                && table.contains_key(used)
                && !table[own].contains(used)
            {
                wrong.insert((source.path.clone(), used.clone()));
            }
        }
    }
    expect_none(&wrong, "uses a module that the table in docs/design.md does not allow");
    Ok(())
}

#[test]
fn no_two_files_use_each_other() -> Result<()> {
    let sources = sources()?;
    let files: BTreeMap<&[String], &str> =
        sources.iter().map(|source| (source.module.as_slice(), source.path.as_str())).collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in &sources {
        for path in source.uses() {
            let Some(module) =
                (1..=path.len()).rev().map(|end| &path[..end]).find(|one| files.contains_key(one))
            else {
                continue;
            };
            // A folder's own file and those in it belong together.
            if !module.starts_with(&source.module) && !source.module.starts_with(module) {
                arrows.entry(&source.path).or_default().insert(files[module]);
            }
        }
    }
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            for next in arrows.get(file).into_iter().flatten().copied() {
                if next == to {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    };
    let mut circles = BTreeSet::new();
    for (from, to) in arrows.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to))) {
        if reaches(to, from) {
            circles.insert((from.to_owned(), to.to_owned()));
        }
    }
    expect_none(&circles, "is part of a circle of files, by this arrow");
    Ok(())
}

/// Fails on what is found.
fn expect_none(found: &BTreeSet<(String, String)>, what: &str) {
    let list: String = found.iter().map(|(from, to)| format!("    {from}: {to}\n")).collect();
    assert!(found.is_empty(), "src/FILE {what}:\n{list}");
}

/// What has no doc comment, though others can see it.
#[derive(Default)]
struct Undocumented {
    found: BTreeSet<(String, String)>,
    path: String,
}

impl Undocumented {
    fn look(&mut self, visibility: &Visibility, attributes: &[Attribute], kind: &str, name: &syn::Ident) {
        let seen = !matches!(visibility, Visibility::Inherited);
        if seen && !attributes.iter().any(|attribute| attribute.path().is_ident("doc")) {
            self.found.insert((self.path.clone(), format!("{kind} {name}")));
        }
    }
}

impl<'a> Visit<'a> for Undocumented {
    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.look(&item.vis, &item.attrs, "struct", &item.ident);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.look(&item.vis, &item.attrs, "enum", &item.ident);
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.look(&item.vis, &item.attrs, "trait", &item.ident);
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.look(&item.vis, &item.attrs, "fn", &item.sig.ident);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.look(&item.vis, &item.attrs, "fn", &item.sig.ident);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

#[test]
fn what_others_see_is_documented() -> Result<()> {
    let mut undocumented = Undocumented::default();
    for source in sources()? {
        undocumented.path.clone_from(&source.path);
        if !source.syntax.attrs.iter().any(|attribute| attribute.path().is_ident("doc")) {
            undocumented.found.insert((source.path.clone(), "the module itself".to_owned()));
        }
        undocumented.visit_file(&source.syntax);
    }
    expect_none(&undocumented.found, "has something without a doc comment");
    Ok(())
}

#[test]
fn no_type_name_stands_for_two_things() -> Result<()> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources()? {
        for item in &source.syntax.items {
            let name = match item {
                Item::Struct(item) => &item.ident,
                Item::Enum(item) => &item.ident,
                Item::Trait(item) => &item.ident,
                Item::Type(item) => &item.ident,
                _ => continue,
            };
            places.entry(name.to_string()).or_default().push(source.path.clone());
        }
    }
    places.retain(|_, places| places.len() > 1);
    let new: Vec<_> = places.iter().filter(|(name, _)| !KNOWN_NAMES.contains(&name.as_str())).collect();
    assert!(new.is_empty(), "types of the same name: {new:#?}");
    let stale: Vec<_> = KNOWN_NAMES.iter().filter(|name| !places.contains_key(**name)).collect();
    assert!(
        stale.is_empty(),
        "take these names out of tests/direction.rs, they are no longer needed: {stale:?}"
    );
    Ok(())
}
