//! Prints the table of options: for `--help`, for `waybill options --format markdown|yaml`, and for docs/options.md.

use std::fmt::Write as _;

use clap::Arg;

use super::names;
use super::table::{Default, Entry, Form, Group, TABLE, ValueKind};

const INTRODUCTION: &str = "\
# Options

<!-- Made by `waybill options --format markdown > docs/options.md`; a test fails when the two differ. -->

The names are those of Traefik's Kubernetes Ingress provider, so the file, flags and variables of a Traefik installation
work unchanged. waybill's own options are `allowCrossNamespace`, `reportNodeInternalIPs` and everything below `operator`. Traefik does
not start with unknown options, so remove these before you give the same file to Traefik.

## Three forms

Every option can be given in three forms. Precedence: flag, variable, file, default.

| form | example | |
| --- | --- | --- |
| file | `providers: {kubernetesIngress: {allowEmptyServices: true}}` | The file named by `--configFile=PATH` or `TRAEFIK_CONFIGFILE`, YAML or TOML by its ending. Keys are case-insensitive. |
| flag | `--providers.kubernetesingress.allowemptyservices` | Case-insensitive; one or two dashes; the value follows `=` or a space. A boolean without a value is `true`. |
| variable | `TRAEFIK_PROVIDERS_KUBERNETESINGRESS_ALLOWEMPTYSERVICES=true` | Options below `operator` begin with `WAYBILL_OPERATOR_`. |

- Lists are comma-separated, or a list in a file; repeated flags append. A list from one source replaces that of another.
  An empty list (`[]`, or nothing after `=`) is a value, and not the same as leaving the option out.
- Booleans are `true` or `false`, or another form that Go's `strconv.ParseBool` accepts (`1`, `t`, `0`, `F`…).
- Durations are Go's (`300ms`, `1m30s`, `1.5h`) or a whole number of seconds, at most 24h.
- Sizes are a number of bytes, optionally with `Ki`, `Mi`, `Gi`, `Ti` or `k`, `M`, `G`, `T`.
- `providers.kubernetesIngress` is always on: leaving it out, `{}`, `true` and the flag alone are the same. `false` is an
  error.
- Sections and flags of Traefik that waybill does not use (`entryPoints`, `api`, `providers.docker`…) are ignored, and one
  log line names them. Any other unknown name is an error.

Every value is checked before the first connection, including values that another source overrides. If anything is
wrong, the program exits with code 2 and prints one line per error: key, source, value, what is wrong, what would be
right. Tokens are never shown.

## How the API server is reached

1. `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` are set: in-cluster, with the token and CA of the service
   account, which are re-read when they rotate. `endpoint` overrides the address.
2. Otherwise, if `KUBECONFIG` is set: with that file. `endpoint` is ignored with a warning.
3. Otherwise: `endpoint`, with `token` and `certAuthFilePath`. An `http://` address, such as that of `kubectl proxy`,
   needs neither. `waybill show` uses `~/.kube/config` when there is no `endpoint`.
";

const FORMS: &str = "\
## The three forms of each option

| file | flag | variable |
| --- | --- | --- |
";

/// docs/options.md.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in Group::ALL {
        let _ = write!(
            text,
            "\n## {}\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n",
            group.title()
        );
        for entry in entries(*group) {
            let Entry { key, kind, meaning, .. } = entry;
            let _ = writeln!(text, "| `{key}` | {} | {} | {meaning} |", kind.name(), shown_default(entry));
        }
    }
    let _ = write!(text, "\n{FORMS}");
    let file =
        |name: &str| (format!("`{}`", Form::Flag.name(name)), format!("`{}`", Form::Variable.name(name)));
    let (flag, variable) = file(names::CONFIG_FILE);
    let _ = writeln!(text, "| | {flag} | {variable} |");
    for entry in TABLE {
        let (flag, variable) = file(entry.key);
        let _ = writeln!(text, "| `{}` | {flag} | {variable} |", entry.key);
    }
    text
}

/// A file of options with their meanings and defaults. Options without a default are commented out with a `#` right
/// before the key.
pub fn yaml() -> String {
    let mut text =
        "# Options of waybill with their defaults. Remove the # before a key to set it.\n".to_owned();
    section(&mut text, "", 0);
    text
}

/// Writes everything below a dotted path (empty for the root), in the table's order.
fn section(text: &mut String, path: &str, depth: usize) {
    let indent = "  ".repeat(depth);
    let below = |key: &'static str| {
        if path.is_empty() {
            Some(key)
        } else {
            names::starts_below(key, path).then(|| &key[path.len() + 1..])
        }
    };
    let mut done: Vec<&str> = Vec::new();
    for entry in TABLE {
        let Some(rest) = below(entry.key) else { continue };
        let Some((child, _)) = rest.split_once('.') else {
            comment(text, &indent, &plain_meaning(entry));
            let mark = if is_set(entry) { "" } else { "#" };
            let _ = writeln!(text, "{indent}{mark}{rest}: {}", yaml_default(entry));
            continue;
        };
        if done.contains(&child) {
            continue;
        }
        done.push(child);
        let path = &entry.key[..entry.key.len() - rest.len() + child.len()];
        let set = TABLE.iter().any(|entry| names::starts_below(entry.key, path) && is_set(entry));
        let _ = writeln!(text, "{indent}{}{child}:", if set { "" } else { "#" });
        section(text, path, depth + 1);
    }
}

/// What an option does, without Markdown.
pub(super) fn plain_meaning(entry: &Entry) -> String {
    entry.meaning.replace('`', "")
}

fn comment(text: &mut String, indent: &str, meaning: &str) {
    for line in wrapped(meaning, 98 - indent.len()) {
        let _ = writeln!(text, "{indent}# {line}");
    }
}

/// Whether the default is a value.
fn is_set(entry: &Entry) -> bool {
    !matches!(entry.default, Default::Unset(_) | Default::Text(""))
}

fn yaml_default(entry: &Entry) -> String {
    match (entry.kind, entry.default) {
        (ValueKind::List(_), _) => "[]".to_owned(),
        (ValueKind::Boolean, Default::Text(text)) => text.to_owned(),
        (_, Default::Text(text)) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.to_owned()
        }
        (_, Default::Text(text)) => format!("{text:?}"),
        (_, Default::Unset(_)) => "waybill".to_owned(),
    }
}

/// The options as arguments of a command, for its `--help`. They never reach the parser: [`split_arguments`] takes them
/// out before, since their case and dashes follow other rules.
///
/// [`split_arguments`]: super::split_arguments
pub fn arguments(listed: impl Fn(&Entry) -> bool) -> Vec<Arg> {
    let file = Arg::new(names::CONFIG_FILE)
        .long(names::CONFIG_FILE.to_ascii_lowercase())
        .value_name("PATH")
        .help_heading("Operator options (case-insensitive; a flag beats a variable, which beats the file)")
        .hide_short_help(true)
        .help("YAML or TOML with the options below, in the form of Traefik's static configuration");
    let option = |entry: &Entry| {
        let arg = Arg::new(entry.key)
            .long(entry.flag().trim_start_matches('-').to_owned())
            .help_heading(entry.group.title())
            .hide_short_help(true)
            .help(plain_meaning(entry));
        let arg = match entry.kind {
            ValueKind::Boolean => arg.value_name("BOOLEAN").num_args(0..=1),
            ValueKind::Text(word) => arg.value_name(word.to_ascii_uppercase()),
            ValueKind::Secret => arg.value_name("TOKEN|PATH"),
            ValueKind::List(word) => arg.value_name(format!("{},…", word.to_ascii_uppercase())),
            ValueKind::Choice(words) => arg.value_name("WORD").value_parser(words.to_vec()),
        };
        match entry.default {
            Default::Text("" | "false") => arg,
            Default::Text(default) => arg.default_value(default),
            Default::Unset(what) => {
                arg.help(format!("{} [default: {}]", entry.meaning, what).replace('`', ""))
            }
        }
    };
    std::iter::once(file).chain(TABLE.iter().filter(|entry| listed(entry)).map(option)).collect()
}

fn entries(group: Group) -> impl Iterator<Item = &'static Entry> {
    TABLE.iter().filter(move |entry| entry.group == group)
}

fn shown_default(entry: &Entry) -> String {
    match (entry.kind, entry.default) {
        (ValueKind::List(_), Default::Text("")) => "all".to_owned(),
        (_, Default::Text("")) => "none".to_owned(),
        (_, Default::Text(text)) => format!("`{text}`"),
        (_, Default::Unset(what)) => what.to_owned(),
    }
}

/// Wraps a text to lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Id, from_yaml_str};

    #[test]
    fn the_committed_page_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == markdown(),
            "docs/options.md is stale: run `waybill options --format markdown > docs/options.md`"
        );
    }

    #[test]
    fn the_file_of_defaults_means_the_defaults() {
        let ours = from_yaml_str(&yaml()).unwrap();
        let default = from_yaml_str("").unwrap();
        assert_eq!(format!("{:?}", ours.options), format!("{:?}", default.options));
        assert!(ours.notes().is_empty() && ours.warnings.is_empty());
    }

    #[test]
    fn every_commented_key_can_be_set() {
        let text: String = yaml()
            .lines()
            .map(|line| {
                let uncommented = line.trim_start().strip_prefix('#').filter(|rest| !rest.starts_with(' '));
                let indent = &line[..line.len() - line.trim_start().len()];
                uncommented.map_or_else(|| format!("{line}\n"), |rest| format!("{indent}{rest}\n"))
            })
            .collect();
        let text = text.replace("ip: \"\"", "ip: 192.0.2.1");
        let loaded = from_yaml_str(&text).unwrap();
        for entry in TABLE {
            assert_ne!(loaded.origin(entry.id), &crate::options::Source::Default, "{}", entry.key);
        }
        assert_eq!(
            loaded.options.settings.cross_provider_namespaces,
            Some(std::collections::BTreeSet::new())
        );
        assert_eq!(Id::EndpointIp.entry().key.rsplit('.').next(), Some("ip"));
    }

    #[test]
    fn the_page_names_every_option() {
        let page = markdown();
        for entry in TABLE {
            assert!(page.contains(&format!("| `{}` |", entry.variable())), "{}", entry.key);
        }
    }
}
