//! Go's regular expressions. The `regex` crate parses nearly the same syntax; the differences are rewritten.
//!
//! Source: <https://pkg.go.dev/regexp/syntax>.

use std::cell::OnceCell;

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::ErrorKind;
use regex_syntax::ast::parse::Parser;
use regex_syntax::hir::translate::Translator;

/// Go's maximum for repetitions.
const REPEAT_LIMIT: u32 = 1000;

/// Maximum size of a pattern. A few bytes can stand for thousands of characters.
pub const PATTERN_LIMIT: usize = 4 << 10;

/// Maximum size of a compiled pattern: enough for dozens of steps, or several Unicode classes in a row.
const COMPILED_LIMIT: usize = 256 << 10;

/// A regular expression with Go's meaning. Traefik accepts patterns that are too expensive to evaluate here.
#[derive(Debug)]
pub struct Pattern {
    rewritten: String,
    /// Compiled when it is first used; `None` if that is too expensive.
    compiled: OnceCell<Option<Regex>>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// One line with the reason why Go refuses it.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.len() > PATTERN_LIMIT {
            return Ok(Self::unknown());
        }
        let rewriter = Rewriter {
            input: pattern,
            at: 0,
            out: String::with_capacity(pattern.len() + 8),
            ignores_case: false,
            is_wide: false,
        };
        let (rewritten, folds) = rewriter.rewrite()?;
        let said = |error: regex_syntax::Error| {
            error.to_string().lines().last().unwrap_or_default().trim().to_owned()
        };
        let tree = match Parser::new().parse(&rewritten) {
            // Go allows deeper nesting.
            Err(error) if matches!(error.kind(), ErrorKind::NestLimitExceeded(_)) => {
                return Ok(Self::unknown());
            }
            tree => tree.map_err(|error| said(error.into()))?,
        };
        if folds {
            return Ok(Self::unknown());
        }
        Translator::new().translate(&rewritten, &tree).map_err(|error| said(error.into()))?;
        Ok(Self { rewritten, compiled: OnceCell::new() })
    }

    /// A pattern that can't be evaluated.
    pub fn unknown() -> Self {
        Self { rewritten: String::new(), compiled: OnceCell::from(None) }
    }

    /// Whether it matches somewhere; `None` if that is unknown.
    pub fn is_match(&self, text: &str) -> Option<bool> {
        let compile = || {
            let mut builder = RegexBuilder::new(&self.rewritten);
            builder.size_limit(COMPILED_LIMIT).dfa_size_limit(COMPILED_LIMIT).build().ok()
        };
        Some(self.compiled.get_or_init(compile).as_ref()?.is_match(text))
    }

    /// The same for bytes that need not be UTF-8: Go treats each invalid byte as U+FFFD.
    pub fn is_match_in(&self, bytes: &[u8]) -> Option<bool> {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            chunk.invalid().iter().for_each(|_| text.push('\u{fffd}'));
        }
        self.is_match(&text)
    }
}

struct Rewriter<'a> {
    input: &'a str,
    at: usize,
    out: String,
    /// Some of it ignores case.
    ignores_case: bool,
    /// It stands for more characters than it has.
    is_wide: bool,
}

impl<'a> Rewriter<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// The pattern for the crate, and whether it ignores the case of so many characters that looking them up takes
    /// milliseconds each time.
    fn rewrite(mut self) -> Result<(String, bool), String> {
        // Whether the last item was a repetition, which Go does not allow to be repeated.
        let mut repeated = false;
        while let Some(character) = self.next() {
            let repeats = match character {
                '*' | '+' | '?' => true,
                '{' => match self.count()? {
                    Some(count) => {
                        self.out.push_str(count);
                        self.at += count.len() - 1;
                        true
                    }
                    None => {
                        self.out.push_str("\\{");
                        false
                    }
                },
                _ => false,
            };
            if repeats {
                if repeated {
                    return Err("a repetition of a repetition".to_owned());
                }
                if character != '{' {
                    self.out.push(character);
                }
                if self.rest().starts_with('?') {
                    self.at += 1;
                    self.out.push('?');
                }
            } else if character != '{' {
                self.one(character)?;
            }
            repeated = repeats;
        }
        Ok((self.out, self.ignores_case && self.is_wide))
    }

    fn one(&mut self, character: char) -> Result<(), String> {
        match character {
            '\\' => return self.escape(false),
            '[' => return self.class(),
            '(' if self.rest().starts_with('?') => {
                let flags = self.rest().trim_start_matches('?');
                let end = flags.find([')', ':']).unwrap_or(flags.len());
                let is_name = flags.starts_with("P<") || flags.starts_with('<');
                if !is_name && flags[..end].chars().any(|flag| !"imsU-".contains(flag)) {
                    return Err(format!("no such flag or group: (?{}", &flags[..end]));
                }
                self.ignores_case |= !is_name && flags[..end].contains('i');
                self.out.push('(');
            }
            other => self.out.push(other),
        }
        Ok(())
    }

    /// The repetition `{n}`, `{n,}` or `{n,m}` at a brace that was just read. Go treats other braces literally.
    fn count(&self) -> Result<Option<&'a str>, String> {
        let from = &self.input[self.at - 1..];
        let end = 1 + from[1..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b',').count();
        if !from[end..].starts_with('}') {
            return Ok(None);
        }
        let (least, most) = from[1..end].split_once(',').map_or((&from[1..end], None), |(a, b)| (a, Some(b)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(least) || most.is_some_and(|most| !most.is_empty() && !is_number(most)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse().unwrap_or(u32::MAX);
        let least_number = number(least);
        let most_number = most.filter(|most| !most.is_empty()).map_or(least_number, number);
        if most_number > REPEAT_LIMIT || least_number > most_number {
            return Err(format!("{} is no repetition of up to {REPEAT_LIMIT}", &from[..=end]));
        }
        Ok(Some(&from[..=end]))
    }

    /// The item after a backslash. In Go, `\d`, `\s`, `\w` and `\b` are ASCII only.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let Some(character) = self.next() else {
            return Err("a backslash at the end".to_owned());
        };
        const DIGIT: &str = "0-9";
        const SPACE: &str = "\\t\\n\\x0C\\r ";
        const WORD: &str = "0-9A-Za-z_";
        let (set, negated) = match character {
            'd' => (DIGIT, false),
            'D' => (DIGIT, true),
            's' => (SPACE, false),
            'S' => (SPACE, true),
            'w' => (WORD, false),
            'W' => (WORD, true),
            _ => ("", false),
        };
        match character {
            _ if !set.is_empty() => {
                let hat = if negated { "^" } else { "" };
                self.is_wide |= in_class && negated;
                if in_class && !negated {
                    self.out.push_str(set)
                } else {
                    self.out.push_str(&format!("[{hat}{set}]"))
                }
            }
            'b' if !in_class => self.out.push_str("(?-u:\\b)"),
            // The two differ for letters beyond ASCII: the crate does not split a character.
            'B' if !in_class => self.out.push_str("\\B"),
            'Q' if !in_class => {
                let text = self.rest();
                let end = text.find("\\E").unwrap_or(text.len());
                self.out.push_str(&regex::escape(&text[..end]));
                self.at = (self.at + end + 2).min(self.input.len());
            }
            'C' if !in_class => self.out.push_str("(?s:.)"),
            '0'..='7' => {
                let digits: String =
                    self.rest().chars().take(2).take_while(|c| ('0'..='7').contains(c)).collect();
                if character != '0' && digits.is_empty() {
                    return Err(format!("\\{character} is no escape"));
                }
                self.at += digits.len();
                let value = u32::from_str_radix(&format!("{character}{digits}"), 8).unwrap_or_default();
                self.out.push_str(&format!("\\x{{{value:X}}}"));
            }
            'a' | 'f' | 't' | 'n' | 'r' | 'v' => self.out.extend(['\\', character]),
            'x' | 'p' | 'P' => {
                self.out.extend(['\\', character]);
                // `\p{Greek}`: not a repetition.
                let braces = self.rest().starts_with('{').then(|| self.rest().find('}')).flatten();
                let name = &self.rest()[..braces.map_or(0, |end| end + 1)];
                // Properties that Go does not know, and some that are expensive to look up.
                if name.contains(['=', ':']) {
                    return Err(format!("\\{character}{name} is no class"));
                }
                self.is_wide |= character != 'x';
                self.out.push_str(name);
                self.at += name.len();
            }
            'A' | 'z' if !in_class => self.out.extend(['\\', character]),
            _ if character.is_ascii_punctuation() => {
                self.out.push_str(&format!("\\x{:02X}", u32::from(character)));
            }
            _ => return Err(format!("\\{character} is no escape")),
        }
        Ok(())
    }

    /// The rest of a class. Go has neither nested classes nor set operations.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest().starts_with('^') {
            self.at += 1;
            self.out.push('^');
        }
        let mut first = true;
        while let Some(character) = self.next() {
            match character {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '\\' => self.escape(true)?,
                '[' if self.rest().starts_with(':') && self.rest().contains(":]") => {
                    let end = self.rest().find(":]").unwrap_or_default() + 2;
                    self.is_wide |= self.rest().starts_with(":^");
                    self.out.push('[');
                    self.out.push_str(&self.rest()[..end]);
                    self.at += end;
                }
                '[' | ']' | '&' | '~' | '^' => self.out.extend(['\\', character]),
                '-' if first || self.rest().starts_with([']', '-']) => self.out.push_str("\\-"),
                '-' => {
                    let end = self.rest();
                    self.is_wide |= end.starts_with("\\x{") || end.starts_with(|c: char| !c.is_ascii());
                    self.out.push('-');
                }
                other => self.out.push(other),
            }
            first = false;
        }
        Err("a class without ]".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, matched, unmatched) in [
            ("^/a.b$", &["/a.b", "/axb"][..], &["/ab", "/a\nb"][..]),
            (r"^/\d+$", &["/12"], &["/٣", "/x"]),
            (r"^[\d\w-]+$", &["a-1_"], &["é", "a b"]),
            (r"^[^\W]+$", &["ab_"], &["é", "-"]),
            ("^/{id}$", &["/{id}"], &["/x"]),
            ("^a{2,3}$", &["aa", "aaa"], &["a", "aaaa"]),
            ("^[a[b]$", &["a", "[", "b"], &["c"]),
            ("^[a&&b]$", &["&", "a", "b"], &["c"]),
            ("^[]a]$", &["]", "a"], &["b"]),
            ("^[a-]$", &["-", "a"], &["b"]),
            (r"^\Qa.b\E$", &["a.b"], &["axb"]),
            (r"\bcart\b", &["/cart/", "écart"], &["/carts"]),
            (r"^\<$", &["<"], &[""]),
            (r"^\101$", &["A"], &["101"]),
            ("(?i)^/API", &["/api"], &["/ap"]),
            ("^/a??b", &["/b", "/ab"], &["/aab"]),
            (r"^/\p{L}+$", &["/é", "/ab"], &["/1"]),
            (r"^/\PL$", &["/1"], &["/a"]),
            (r"^/[\P{Greek}]{2}$", &["/ab"], &["/αb", "/a"]),
            (r"^\x{1F600}\x{41}\x42$", &["\u{1F600}AB"], &["AB"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            matched.iter().for_each(|text| assert_eq!(parsed.is_match(text), Some(true), "{pattern} {text}"));
            unmatched
                .iter()
                .for_each(|text| assert_eq!(parsed.is_match(text), Some(false), "{pattern} {text}"));
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            "a**",
            "*a",
            "(?x)a",
            "(?=a)",
            "a{1001}",
            "a{3,2}",
            "[a",
            "(a",
            "a\\",
            "\\y",
            "\\1",
            "(?u)a",
            r"\p{age=15.1}",
            r"(?i)\pL(",
            r"(?i)[ -\x{10FFFF}](",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn what_go_takes_and_costs_too_much_here_is_not_known() {
        let long = "x".repeat(PATTERN_LIMIT + 1);
        let deep = format!("{}a{}", "(".repeat(900), ")".repeat(900));
        for pattern in [
            r"/\pL{400}",
            r"(?:a{1000}){1000}",
            r"(?i)^/\p{Lu}",
            "(?i)[ -\u{10FFFF}]",
            r"(?is:[\x00-\x{10FFFF}])",
            r"(?i)[a\D]",
            "(?i)[a[:^alpha:]]",
            &long,
            &deep,
        ] {
            let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(parsed.is_match("/a"), None, "{pattern}");
        }
        let known =
            [r"^/\p{Lu}{3}", "(?i)^/é[a-z0-9]", r"(?i)[^\x{e9}]", r"(?P<i>\pL)", "(?:/[a-z]{1,60}){4}"];
        for pattern in known {
            let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(parsed.is_match("/a").is_some(), "{pattern}");
        }
    }
}
