//! Text that stays text: JSON whose strings neither Traefik's template engine nor its YAML parser takes for
//! anything else.
//!
//! Traefik's file provider runs a file through Go's templates before it parses it, and parses JSON as YAML. So a
//! `{` inside a string is written as an escape (no string can open a template action), and so are the characters
//! that YAML refuses (U+007F to U+009F, U+FFFE, U+FFFF) or takes for the end of a line (U+0085, U+2028, U+2029).
//! What JSON escapes by itself is escaped by serde_json. Between strings no `{{` can come about: JSON has a quote
//! or a bracket after every opening brace.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;
use sha2::{Digest as _, Sha256};

/// The destination of text: memory, or a hash.
pub trait Sink {
    /// Takes the next piece.
    fn push(&mut self, text: &str);
}

impl Sink for String {
    fn push(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Sink for Sha256 {
    fn push(&mut self, text: &str) {
        self.update(text.as_bytes());
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn push(&mut self, text: &str) {
        (**self).push(text);
    }
}

/// serde_json's compact form with our escapes.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let bytes = fragment.as_bytes();
        if is_plain(bytes) {
            return writer.write_all(bytes);
        }
        let mut written = 0;
        let mut at = 0;
        while at < bytes.len() {
            // Only `{`, U+007F and characters with one of three lead bytes can need an escape.
            if !matches!(bytes[at], b'{' | 0x7f | 0xc2 | 0xe2 | 0xef) {
                at += 1;
                continue;
            }
            let Some(character) = fragment.get(at..).and_then(|rest| rest.chars().next()) else { break };
            let end = at + character.len_utf8();
            if needs_escape(character) {
                writer.write_all(&bytes[written..at])?;
                write!(writer, "\\u{:04x}", u32::from(character))?;
                written = end;
            }
            at = end;
        }
        writer.write_all(&bytes[written..])
    }
}

/// Whether no byte needs an escape in a string. Checks all bytes without branches, so that the compiler can process
/// many at a time: nearly all text is plain.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| {
        plain & (0x20..0x7f).contains(byte) & (*byte != b'"') & (*byte != b'\\') & (*byte != b'{')
    })
}

/// Whether a character that JSON would not escape has to be escaped.
fn needs_escape(character: char) -> bool {
    matches!(character, '{' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

/// Appends `value` to `out` as compact JSON, on one line.
///
/// `value` is one of our types: the keys of its maps are texts, so that nothing can fail.
pub fn append_json<T: Serialize + ?Sized>(out: &mut String, value: &T) {
    let mut bytes = std::mem::take(out).into_bytes();
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Escaping));
    debug_assert!(written.is_ok(), "{written:?}");
    // serde_json writes only UTF-8; the other arm exists so that nothing here can panic.
    *out = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
}

/// Writes a text of many lines like [`append_json`], but without copying lines that need no escape, which is what
/// certificates consist of.
pub fn push_lines(sink: &mut (impl Sink + ?Sized), text: &str) {
    let mut open = "\"";
    for line in text.split('\n') {
        sink.push(open);
        open = "\\n";
        if is_plain(line.as_bytes()) {
            sink.push(line);
        } else {
            let quoted = json(line);
            sink.push(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        }
    }
    sink.push("\"");
}

/// `value` as compact JSON, on one line.
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = String::new();
    append_json(&mut out, value);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_traefik_could_misread_is_escaped() {
        for (text, escaped) in [
            ("{{ env \"HOME\" }}", r#""\u007b\u007b env \"HOME\" }}""#),
            ("{%a%}", r#""\u007b%a%}""#),
            ("\u{7f}\u{80}\u{85}\u{9f}\u{a0}", "\"\\u007f\\u0080\\u0085\\u009f\u{a0}\""),
            ("a\u{2028}b\u{2029}c", r#""a\u2028b\u2029c""#),
            ("\u{fffd}\u{fffe}\u{ffff}\u{10000}", "\"\u{fffd}\\ufffe\\uffff\u{10000}\""),
            ("a\n\t\u{1}\\", r#""a\n\t\u0001\\""#),
            ("größe/\u{feff}€", "\"größe/\u{feff}€\""),
            ("", r#""""#),
        ] {
            assert_eq!(json(text), escaped, "{text:?}");
        }
    }

    #[test]
    fn keys_of_maps_are_escaped_too() {
        assert_eq!(json(&std::collections::BTreeMap::from([("{{", 1)])), r#"{"\u007b\u007b":1}"#);
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "(?s)([ -~]|[^\\x00]|\n|[{\"\\\\]){0,40}") {
            let written = json(&text);
            let mut pushed = String::new();
            push_lines(&mut pushed, &text);
            prop_assert_eq!(&pushed, &written);
            prop_assert!(!written.chars().any(|c| c == '\n' || needs_escape(c)));
            prop_assert_eq!(serde_json::from_str::<String>(&written).ok(), Some(text));
        }
    }
}
