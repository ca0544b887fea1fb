//! Keeps private keys and line breaks out of everything that people read: logs, Events, conditions, errors, and what
//! `render` prints. Somebody may have pasted a key into an annotation, a path or a name.

use std::borrow::Cow;
use std::io::{self, Write};

/// PEM, and its beginning in base64, as in Secrets.
const MARKS: [&str; 2] = ["-----BEGIN", "LS0tLS1CRUdJTi"];
const END: &str = "-----END";
const DASHES: &str = "-----";
const NOT_SHOWN: &str = "(not shown)";

/// Replaces every PEM block, even an incomplete one, by `(not shown)`.
pub fn hide_keys(text: &str) -> Cow<'_, str> {
    let mut rest = text;
    let mut hidden = String::new();
    while let Some(start) = MARKS.iter().filter_map(|mark| rest.find(mark)).min() {
        hidden.push_str(&rest[..start]);
        hidden.push_str(NOT_SHOWN);
        rest = &rest[start..];
        rest = &rest[end(rest)..];
    }
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    hidden.push_str(rest);
    Cow::Owned(hidden)
}

/// Like [`hide_keys`], line by line, for a document with one text per line: a block without an end affects only its own
/// line.
pub fn hide_keys_in_lines(text: &str) -> Cow<'_, str> {
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return Cow::Borrowed(text);
    }
    text.split_inclusive('\n')
        .flat_map(|line| {
            let kept = hide_keys(line);
            let cut = line.ends_with('\n') && !kept.ends_with('\n');
            [kept, Cow::Borrowed(if cut { "\n" } else { "" })]
        })
        .collect::<String>()
        .into()
}

/// A foreign text within a line of ours, which it can neither end nor turn around, in a terminal or in a browser.
pub fn printable(text: &str) -> Cow<'_, str> {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = |c: char| c.is_control() || turns(c) || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(escaped) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if escaped(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// The part of a text that is shown in at most `limit` bytes: without keys, and with `…` for the rest.
pub fn shown(text: &str, limit: usize) -> String {
    let mut shown = hide_keys(text).into_owned();
    if shown.len() > limit {
        shown.truncate(shown.floor_char_boundary(limit.saturating_sub('…'.len_utf8())));
        shown.push('…');
    }
    shown
}

/// The end of the block at the start of `text`: after its last line, or before an unescaped quote that ends the quoted
/// value, or else the end of the text.
fn end(text: &str) -> usize {
    let mut escaped = false;
    let quote = text.char_indices().find_map(|(at, character)| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends.then_some(at)
    });
    let block = text.find(END).map(|at| at + END.len());
    let block = block.and_then(|at| text[at..].find(DASHES).map(|dashes| at + dashes + DASHES.len()));
    quote.into_iter().chain(block).min().unwrap_or(text.len())
}

/// A log's writer that hides keys. Each write must be one whole line.
#[derive(Debug)]
pub struct KeylessWriter<W>(pub W);

impl<W: Write> Write for KeylessWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(hide_keys_in_lines(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_hidden_whole_or_cut_and_the_rest_stays() {
        for (text, wanted) in [
            ("nothing", "nothing"),
            ("a -----BEGIN X-----\nhush\n-----END X----- b", "a (not shown) b"),
            ("a -----BEGIN X-----\nhush", "a (not shown)"),
            (
                r#"v="-----BEGIN X-----\nhu\"sh" remedy="write -----END X-----""#,
                r#"v="(not shown)" remedy="write -----END X-----""#,
            ),
            ("-----BEGIN X----- h -----END X-----, -----BEGIN Y----- h", "(not shown), (not shown)"),
            ("key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t", "key: (not shown)"),
        ] {
            assert_eq!(hide_keys(text), wanted);
        }
        assert!(matches!(hide_keys("nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_block_without_an_end_costs_its_line_alone() {
        for (text, wanted) in
            [("a\nb\n", "a\nb\n"), ("a -----BEGIN x\nb\n-----BEGIN y", "a (not shown)\nb\n(not shown)")]
        {
            assert_eq!(hide_keys_in_lines(text), wanted);
        }
    }

    #[test]
    fn a_line_stays_one_line_and_its_letters_stay() {
        assert!(matches!(printable(r#"é "quoted" \e `x`"#), Cow::Borrowed(r#"é "quoted" \e `x`"#)));
        assert_eq!(printable("é\n\u{1b}[2J\u{9b}\u{202e}\0"), r"é\n\u{1b}[2J\u{9b}\u{202e}\u{0}");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shown(&"é".repeat(10), 20), "é".repeat(10));
        assert_eq!(shown(&"é".repeat(11), 20), format!("{}…", "é".repeat(8)));
        assert_eq!(shown(&format!("{}-----BEGIN X", "é".repeat(5)), 10), "ééé…");
    }

    #[test]
    fn a_log_line_stays_one_line_and_json_stays_json() {
        let mut out = Vec::new();
        let line = serde_json::json!({"value": "-----BEGIN X-----\nhu\"sh", "remedy": "r"}).to_string();
        KeylessWriter(&mut out).write_all(format!("{line}\n").as_bytes()).unwrap();
        KeylessWriter(&mut out).write_all(b"error: -----BEGIN X-----\n").unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "error: (not shown)");
        let json: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(json, serde_json::json!({"value": "(not shown)", "remedy": "r"}));
    }
}
