//! Cuts a file into its YAML documents before any is parsed, so that one that does not parse can't take the
//! others with it.

/// A document with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YamlDocument<'a> {
    /// Its bytes, from after its `---` to the next one.
    pub bytes: &'a [u8],
    /// The line of the file on which they begin, from 1.
    pub line: usize,
}

impl YamlDocument<'_> {
    /// The first line of the file that has content of this document.
    pub fn first_line(&self) -> usize {
        let lines = self.bytes.split(|byte| *byte == b'\n');
        self.line + lines.take_while(|line| !has_content(line)).count()
    }
}

/// The documents of a file. A line that begins with `---` or `...` is always a border, since YAML does not allow it in
/// any scalar.
pub fn documents(file: &[u8]) -> impl Iterator<Item = YamlDocument<'_>> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut rest = Some((file, 1));
    std::iter::from_fn(move || {
        let (bytes, line) = rest.take()?;
        let (document, next) = cut(bytes);
        rest = next.map(|(next, lines)| (next, line + lines));
        Some(YamlDocument { bytes: document, line })
    })
    .filter(|document| !is_blank(document.bytes))
}

/// The bytes up to the next border, and those after it with the number of lines before. The rest begins with a space,
/// so that a border is never found twice.
fn cut(bytes: &[u8]) -> (&[u8], Option<(&[u8], usize)>) {
    let mut start = 0;
    for (lines, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if is_border(line) {
            let (document, next) = bytes.split_at(start);
            return (document, Some((next.get(3..).unwrap_or_default(), lines)));
        }
        start += line.len() + 1;
    }
    (bytes, None)
}

fn is_border(line: &[u8]) -> bool {
    let Some(behind) = line.strip_prefix(b"---").or_else(|| line.strip_prefix(b"...")) else { return false };
    matches!(behind.first(), None | Some(b' ' | b'\t' | b'\r'))
}

/// Whether it contains only whitespace, comments and directives.
fn is_blank(bytes: &[u8]) -> bool {
    !bytes.split(|byte| *byte == b'\n').any(has_content)
}

fn has_content(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    !matches!(text.first(), None | Some(b'#')) && !line.starts_with(b"%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_up(file: &str) -> Vec<(&str, usize)> {
        documents(file.as_bytes())
            .map(|document| (std::str::from_utf8(document.bytes).unwrap().trim(), document.line))
            .collect()
    }

    #[test]
    fn documents_are_cut_at_lines_of_three_dashes() {
        assert_eq!(cut_up(""), []);
        assert_eq!(cut_up("a: 1"), [("a: 1", 1)]);
        assert_eq!(cut_up("---\na: 1\n---\nb: 2\n"), [("a: 1", 1), ("b: 2", 3)]);
        assert_eq!(cut_up("# hello\n---\n\n---\na: 1\n...\n"), [("a: 1", 4)]);
        assert_eq!(cut_up("%YAML 1.2\n--- # c\na: 1\r\n---\r\nb: 2"), [("# c\na: 1", 2), ("b: 2", 4)]);
        assert_eq!(cut_up("--- {a: 1}\n---  ---\n"), [("{a: 1}", 1), ("---", 2)]);
        assert_eq!(cut_up("a: |\n ---\n b\n----\n---x: y"), [("a: |\n ---\n b\n----\n---x: y", 1)]);
        assert_eq!(cut_up("\u{feff}---\na: 1"), [("a: 1", 1)]);
    }

    #[test]
    fn every_byte_is_in_one_document_or_a_border() {
        let file = b"---\na\n---\n---\nb\n...\nc\n--- d";
        let found: Vec<_> = documents(file).map(|document| (document.bytes, document.line)).collect();
        let expected: &[(&[u8], usize)] = &[(b"\na\n", 1), (b"\nb\n", 4), (b"\nc\n", 6), (b" d", 8)];
        assert_eq!(found, expected);
    }
}
