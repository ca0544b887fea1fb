//! Names of ours that give way to the user's own files. The user's entry keeps its name, since it may be what keeps
//! strangers out, and a tenant can choose the names of ours. Ours is called otherwise in what Traefik reads, and so is what
//! leads to it.
//!
//! Of a router on several entry points Traefik makes a copy for each, called `ENTRYPOINT-NAME`, and if there is a router
//! of that name, a random one of the two is lost (`applyModel` in pkg/server/aggregator.go). Names of entry points are not
//! known here, so ours gives way wherever one of the two names could be that of the other's copy.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::shard::{EntryKey, EntryKind};
use crate::traefik::escape;

/// What makes a name of ours another one. The operator publishes no name that contains it.
const MARK: char = '_';

/// In a line there is such a text once at most, and it is the field: in a string the quotes are escaped.
const SERVICE_FIELD: &str = "\"service\":\"";

/// The names that ours give way to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renames {
    routers: BTreeSet<Arc<str>>,
    /// The same, backwards.
    reversed_routers: BTreeSet<String>,
    services: BTreeSet<Arc<str>>,
}

impl Renames {
    /// `users` are the entries of the user's.
    pub fn new(users: &BTreeSet<EntryKey>) -> Self {
        let of = |wanted: EntryKind| -> BTreeSet<Arc<str>> {
            users.iter().filter(|(kind, _)| *kind == wanted).map(|(_, name)| Arc::clone(name)).collect()
        };
        let routers = of(EntryKind::Router);
        Self {
            reversed_routers: routers.iter().map(|name| reversed(name)).collect(),
            routers,
            services: of(EntryKind::Service),
        }
    }

    /// The new name of an entry of ours; `None` if it keeps its own.
    pub fn new_name(&self, (kind, name): &EntryKey) -> Option<String> {
        let gives_way = |name: &str| match kind {
            EntryKind::Router => self.meets_router(name),
            EntryKind::Service => self.services.contains(name),
            EntryKind::Certificate => false,
        };
        let mut new = gives_way(name).then(|| name.to_string())?;
        while gives_way(&new) {
            new.push(MARK);
        }
        Some(new)
    }

    /// Whether Traefik could take a router of this name, or a copy of it, for the user's or for a copy of that.
    fn meets_router(&self, name: &str) -> bool {
        let mut ends = name.match_indices('-').map(|(at, _)| &name[at + 1..]);
        let as_copy = reversed(&format!("-{name}"));
        self.routers.contains(name)
            || ends.any(|end| self.routers.contains(end))
            || self
                .reversed_routers
                .range(as_copy.clone()..)
                .next()
                .is_some_and(|users| users.starts_with(&as_copy))
    }

    /// The line of an entry as Traefik reads it.
    pub fn line<'a>(&self, key: &EntryKey, line: &'a str) -> Cow<'a, str> {
        let mut line = Cow::Borrowed(line);
        if let Some(new) = self.new_name(key)
            && let Some(rest) = line.strip_prefix(&escape::json(&*key.1))
        {
            line = format!("{}{rest}", escape::json(&new)).into();
        }
        if key.0 == EntryKind::Router
            && !self.services.is_empty()
            && let Some((before, rest)) = line.split_once(SERVICE_FIELD)
            && let Some((service, rest)) = rest.split_once('"')
            && let Some(new) = self.new_name(&(EntryKind::Service, service.into()))
        {
            line = format!("{before}{SERVICE_FIELD}{new}\"{rest}").into();
        }
        line
    }
}

fn reversed(name: &str) -> String {
    name.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::shard::ShardEntries;

    #[test]
    fn the_users_entry_keeps_the_name_and_ours_goes_on_under_another() {
        let text = r#"{"http":{"routers":{
            "web":{"rule":"Path(`/\"service\":\"web\"`)","service":"web"},
            "service":{"rule":"x","service":"other"}
        },"services":{
            "web":{"loadBalancer":{"servers":[{"url":"http://10.0.0.1"}]}},
            "other":{"loadBalancer":{"servers":[{"url":"http://10.0.0.2"}]}}
        }}}"#;
        let shard = ShardEntries::parse("x", text).unwrap();
        let written = |users: &[(EntryKind, &str)]| -> Vec<String> {
            let users = users.iter().map(|(kind, name)| (*kind, (*name).into())).collect();
            let renames = Renames::new(&users);
            shard.0.iter().map(|entry| renames.line(&entry.key, &entry.line).into_owned()).collect()
        };
        let plain = written(&[]);
        use EntryKind::{Router, Service};
        assert_eq!(written(&[(Router, "other"), (Service, "service"), (Service, "web_")]), plain);

        let router = plain.iter().find(|line| line.starts_with("\"web\":{\"service\":\"web\"")).unwrap();
        assert!(written(&[(Router, "web")]).contains(&router.replacen("\"web\"", "\"web_\"", 1)));
        // Whoever leads to a service of another name goes with it, and a rule stays as it is.
        let of_service = written(&[(Service, "web")]);
        assert!(
            of_service.contains(&router.replacen("\"service\":\"web\"", "\"service\":\"web_\"", 1)),
            "{of_service:?}"
        );
        assert_eq!(
            of_service.iter().filter(|line| line.starts_with("\"web_\":{\"loadBalancer\"")).count(),
            1
        );
        assert_eq!(of_service.iter().filter(|line| plain.contains(line)).count(), 2);
        // The new name is nobody's.
        let taken = written(&[(Service, "web"), (Service, "web_")]).concat();
        assert!(taken.contains("\"web__\":{") && taken.contains("\"service\":\"web__\""), "{taken}");
    }

    /// Traefik calls the copy of a router for an entry point `ENTRYPOINT-NAME`.
    #[test]
    fn ours_is_no_copy_of_the_users_and_has_no_copy_of_such_a_name() {
        let renamed = |users: &[&str], ours: &str| {
            let users = users.iter().map(|name| (EntryKind::Router, (*name).into())).collect();
            Renames::new(&users).new_name(&(EntryKind::Router, ours.into()))
        };
        let keeps = |users: &[&str], ours: &str| renamed(users, ours).is_none();
        assert_eq!(renamed(&["dashboard"], "websecure-dashboard").as_deref(), Some("websecure-dashboard_"));
        assert_eq!(renamed(&["websecure-admin-ui"], "admin-ui").as_deref(), Some("admin-ui_"));
        assert_eq!(renamed(&["my-websecure-admin-ui"], "admin-ui").as_deref(), Some("admin-ui_"));
        assert_eq!(renamed(&["x-é-ü"], "é-ü").as_deref(), Some("é-ü_"));
        assert!(keeps(&["dashboard", "admin-ui-x", "zadmin-ui"], "admin-ui"));
        assert!(keeps(&["board"], "websecure-dashboard") && keeps(&["websecure"], "websecure-dashboard"));
        // The new name meets none either.
        let users = ["dashboard", "dashboard_", "x-websecure-dashboard__"];
        assert_eq!(renamed(&users, "websecure-dashboard").as_deref(), Some("websecure-dashboard___"));
        let users = [(EntryKind::Service, "web".into())].into();
        assert_eq!(Renames::new(&users).new_name(&(EntryKind::Service, "shop-web".into())), None);
    }
}
