//! A document in YAML's block style, for people.
//!
//! A YAML library can be made to quote every text, but it writes a `{` in it as it is, and Traefik would run `{{` as a
//! template. So the JSON that we write is laid out anew and keeps its strings: a JSON string is a double-quoted YAML
//! string.

/// Formats `json`, as [`super::escape`] and [`super::document`] write it, in block style.
///
/// Texts stay double-quoted. A key loses its quotes if it consists of ASCII letters and is not a word with a meaning in
/// YAML. Empty maps and lists stay `{}` and `[]`.
pub fn block(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 4);
    let mut open: Vec<Container> = Vec::new();
    // The separator before the next key, item or value. It is written only once the token is known.
    let mut place = Position::Top;
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = token(rest, first);
        let (text, after) = rest.split_at(length);
        rest = after;
        match first {
            '{' | '[' => {
                let empty = rest.trim_start().starts_with(if first == '{' { '}' } else { ']' });
                if empty {
                    begin(&mut out, &mut open, place);
                    out.push_str(if first == '{' { "{}\n" } else { "[]\n" });
                } else {
                    let inline = match place {
                        Position::Top => true,
                        Position::Value => {
                            out.push('\n');
                            false
                        }
                        Position::Item => {
                            begin(&mut out, &mut open, place);
                            true
                        }
                        Position::Key => false,
                    };
                    let indent = match (&place, open.last()) {
                        (Position::Top, _) | (_, None) => 0,
                        (_, Some(parent)) => parent.indent + 2,
                    };
                    open.push(Container { map: first == '{', indent, inline, empty: false });
                    place = if first == '{' { Position::Key } else { Position::Item };
                    continue;
                }
                // Its closing bracket is still to come and has nothing to end.
                open.push(Container { map: first == '{', indent: 0, inline: false, empty: true });
            }
            '}' | ']' => {
                open.pop();
                place = next(&open);
            }
            ',' => place = next(&open),
            ':' => place = Position::Value,
            _ if first.is_ascii_whitespace() => {}
            _ if matches!(place, Position::Key) => {
                begin(&mut out, &mut open, place);
                out.push_str(key(text));
                out.push(':');
            }
            _ => {
                begin(&mut out, &mut open, place);
                out.push_str(text);
                out.push('\n');
            }
        }
    }
    out
}

/// An open map or list.
struct Container {
    map: bool,
    /// Indentation of its keys or dashes.
    indent: usize,
    /// Its first key or dash continues the current line.
    inline: bool,
    /// It is `{}` or `[]`.
    empty: bool,
}

/// The position of the next token.
#[derive(Clone, Copy)]
enum Position {
    Top,
    Key,
    Value,
    Item,
}

fn next(open: &[Container]) -> Position {
    match open.last() {
        None => Position::Top,
        Some(container) if container.empty => Position::Top,
        Some(container) if container.map => Position::Key,
        Some(_) => Position::Item,
    }
}

/// Writes the separator before a key, a value or an item.
fn begin(out: &mut String, open: &mut [Container], place: Position) {
    let (indent, inline) = open
        .last_mut()
        .map_or((0, true), |container| (container.indent, std::mem::take(&mut container.inline)));
    if matches!(place, Position::Key | Position::Item) && !inline {
        out.extend(std::iter::repeat_n(' ', indent));
    }
    match place {
        Position::Item => out.push_str("- "),
        Position::Value => out.push(' '),
        Position::Top | Position::Key => {}
    }
}

/// The length of the token at the start of `json`.
fn token(json: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut escaped = false;
            for (at, byte) in json.bytes().enumerate().skip(1) {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => return at + 1,
                    _ => {}
                }
            }
            json.len()
        }
        '{' | '}' | '[' | ']' | ',' | ':' => 1,
        _ if first.is_ascii_whitespace() => 1,
        _ => json.find([',', '}', ']', ':', '\n', ' ']).unwrap_or(json.len()).max(first.len_utf8()),
    }
}

/// A key, without quotes if it can't be misread.
fn key(quoted: &str) -> &str {
    let bare = quoted.trim_matches('"');
    let word = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = !bare.is_empty()
        && bare.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !word.iter().any(|word| word.eq_ignore_ascii_case(bare));
    if plain { bare } else { quoted }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::escape;
    use super::*;

    #[test]
    fn documents_are_laid_out_in_blocks() {
        let document = concat!(
            "{\"http\":{\"routers\":{\n\"a-b\":{\"entryPoints\":[\"web\",\"x: y\"],\"priority\":-3,\"tls\":{}},\n",
            "\"yes\":{\"rule\":\"Path(\\\"/\\u007b\\\")\"}\n}},\"tls\":{\"certificates\":[\n",
            "{\"certFile\":\"a\\nb\",\"keyFile\":\"k\"},\n{\"certFile\":\"c\"}\n]}}\n"
        );
        let yaml = r#"http:
  routers:
    "a-b":
      entryPoints:
        - "web"
        - "x: y"
      priority: -3
      tls: {}
    "yes":
      rule: "Path(\"/\u007b\")"
tls:
  certificates:
    - certFile: "a\nb"
      keyFile: "k"
    - certFile: "c"
"#;
        assert_eq!(block(document), yaml);
    }

    #[test]
    fn small_ones() {
        for (json, yaml) in [
            ("{}\n", "{}\n"),
            ("[]", "[]\n"),
            ("[[],[[1]],{}]", "- []\n- - - 1\n- {}\n"),
            ("[[[],\"\"],[{},{\"a\":1}]]", "- - []\n  - \"\"\n- - {}\n  - a: 1\n"),
            ("{\"a\":[{}],\"b\":true}", "a:\n  - {}\nb: true\n"),
            ("\"x\"", "\"x\"\n"),
        ] {
            assert_eq!(block(json), yaml);
        }
    }

    /// Broken input gives some text; it neither panics nor hangs.
    #[test]
    fn anything_is_survived() {
        for json in ["{", "}", "\"a", "{\"a\"", "]]", "ü{", ":::", "\\", "{\"a\":}", ""] {
            block(json);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<String>(), "[a-z]{0,3}", Just("yes".to_owned()), Just("{{".to_owned())];
        let leaf = prop_oneof![
            text.clone().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_yaml_parser_reads_the_same(value in value()) {
            let document = json!({ "document": value });
            let yaml = block(&escape::json(&document));
            let read: Value = serde_saphyr::from_str(&yaml).map_err(|e| TestCaseError::fail(format!("{e}\n{yaml}")))?;
            prop_assert_eq!(read, document, "{}", yaml);
        }
    }
}
