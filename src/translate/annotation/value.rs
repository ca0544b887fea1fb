//! Parses values of annotations, in the forms that Go's strconv accepts.

/// Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt` with base 10 and 64 bits: an optional sign and digits, nothing else.
pub fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Items separated by commas, trimmed as in Go's `strings.TrimSpace`, and whether an empty one was dropped. An empty
/// text is no list.
pub fn list(text: &str) -> (Vec<String>, bool) {
    if text.is_empty() {
        return (Vec::new(), false);
    }
    let mut dropped = false;
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| {
            dropped |= item.is_empty();
            !item.is_empty()
        })
        .map(str::to_owned)
        .collect();
    (items, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_go_s() {
        for (text, number) in [
            ("0", Some(0)),
            ("+7", Some(7)),
            ("-42", Some(-42)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("+", None),
            (" 1", None),
            ("1_000", None),
            ("0x10", None),
            ("1.0", None),
        ] {
            assert_eq!(integer(text), number, "{text:?}");
        }
    }

    #[test]
    fn booleans_are_go_s() {
        assert_eq!(boolean("True"), Some(true));
        assert_eq!(boolean("f"), Some(false));
        for text in ["", "yes", "tRUE", "on", " true"] {
            assert_eq!(boolean(text), None, "{text:?}");
        }
    }

    #[test]
    fn lists_drop_empty_items() {
        assert_eq!(list(""), (vec![], false));
        assert_eq!(list(" "), (vec![], true));
        assert_eq!(list(" a , b"), (vec!["a".to_owned(), "b".to_owned()], false));
        assert_eq!(list("a,,b,"), (vec!["a".to_owned(), "b".to_owned()], true));
    }
}
