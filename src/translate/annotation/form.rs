//! The valid values of annotations, as far as they are checked.

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// In the forms of Go's `strconv.ParseBool`.
    Boolean,
    Integer,
    Scheme,
    /// On or off; if off, the keys below it are ignored.
    Switch,
    /// Items separated by commas.
    List,
    /// A list that may lose empty items, but not all of its items.
    EntryPoints,
    /// A list without empty items.
    Middlewares,
    PathMatcher,
    Text,
}

/// The fault of a list that contains [`crate::traefik::dynamic::LIST_SEPARATOR`].
pub const SEPARATED: &str = "remove the character U+2551: Traefik treats it as the end of an item";

impl ValueForm {
    /// The remedy; none if every text is valid.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Boolean => "write true or false",
            Self::Integer => "write a whole number of at most 64 bits, such as 10 or -1",
            Self::Scheme => "write http, https or h2c",
            Self::Switch => "write true or false; Traefik treats this value as off",
            Self::List => "remove the empty item; the others are used",
            Self::EntryPoints => {
                "the list has only empty items; name an entry point, or remove the annotation"
            }
            Self::Middlewares => "name the middleware that is missing, or remove the empty item",
            Self::PathMatcher => "write Path, PathPrefix or PathRegexp",
            Self::Text => "",
        }
    }
}
