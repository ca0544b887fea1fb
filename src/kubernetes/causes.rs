//! Formats errors with their causes for people.

use std::error::Error;

/// An error with all its causes, which `Display` alone leaves out. If an error's text already includes its cause, the
/// cause is not repeated.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let inner = std::io::Error::other("refused");
        let outer = std::io::Error::other(Wrapped("no answer", inner));
        assert_eq!(with_causes(&outer), "no answer: refused");
        let outer =
            std::io::Error::other(Wrapped("refused by the other side", std::io::Error::other("refused")));
        assert_eq!(with_causes(&outer), "refused by the other side");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Wrapped(&'static str, #[source] std::io::Error);
}
