//! What the values of annotations may be, as far as they are checked.

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// As Go's `strconv.ParseBool` takes it.
    Boolean,
    Integer,
    Scheme,
    /// On or off; silences what is below it when it is off.
    Switch,
    /// Items between commas.
    List,
    /// A list that may lose empty items, but not all of its items.
    EntryPoints,
    /// A list without empty items.
    Middlewares,
    PathMatcher,
    Text,
}

/// What is wrong with a list that holds [`crate::traefik::dynamic::LIST_SEPARATOR`].
pub const SEPARATED: &str = "remove the character U+2551: Traefik takes it for the end of an item";

impl ValueForm {
    /// What would be right; nothing where every text is.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Boolean => "write true or false",
            Self::Integer => "write a whole number of at most 64 bits, such as 10 or -1",
            Self::Scheme => "write http, https or h2c",
            Self::Switch => "write true or false; Traefik takes this value for off",
            Self::List => "remove the empty item; the others are used",
            Self::EntryPoints => {
                "the list has nothing but empty items; name an entry point, or remove the annotation"
            }
            Self::Middlewares => "name the middleware that is missing, or remove the empty item",
            Self::PathMatcher => "write Path, PathPrefix or PathRegexp",
            Self::Text => "",
        }
    }
}
