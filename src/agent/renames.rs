//! Names of ours that the user's own files have as well. The user's entry keeps the name, since it may be what keeps
//! strangers out, and a tenant can choose the names of ours. Ours is called otherwise in what Traefik reads, and so is what
//! leads to it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::shard::{EntryKey, EntryKind};
use crate::traefik::escape;

/// What makes a name of ours another one. The operator publishes no name with it.
const MARK: char = '_';

/// In a line there is such a text once at most, and it is the field: in a string the quotes are escaped.
const SERVICE_FIELD: &str = "\"service\":\"";

/// Routers and services of ours with the new name of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renames {
    routers: BTreeMap<Arc<str>, String>,
    services: BTreeMap<Arc<str>, String>,
}

impl Renames {
    /// `users` are the entries of the user's, `ours` says whether there is one of ours.
    pub fn new(users: &BTreeSet<EntryKey>, ours: impl Fn(&EntryKey) -> bool) -> Self {
        let mut renames = Self::default();
        for key in users.iter().filter(|key| ours(key)) {
            let (kind, name) = key;
            let mut new = format!("{name}{MARK}");
            let is_taken = |name: &str| {
                let key = (*kind, name.into());
                users.contains(&key) || ours(&key)
            };
            while is_taken(&new) {
                new.push(MARK);
            }
            match kind {
                EntryKind::Router => renames.routers.insert(Arc::clone(name), new),
                EntryKind::Service => renames.services.insert(Arc::clone(name), new),
                EntryKind::Certificate => None,
            };
        }
        renames
    }

    /// The line of an entry as Traefik reads it.
    pub fn line<'a>(&self, (kind, name): &EntryKey, line: &'a str) -> Cow<'a, str> {
        let mut line = Cow::Borrowed(line);
        let renamed = match kind {
            EntryKind::Router => self.routers.get(name),
            EntryKind::Service => self.services.get(name),
            EntryKind::Certificate => None,
        };
        if let Some(new) = renamed
            && let Some(rest) = line.strip_prefix(&escape::json(&**name))
        {
            line = format!("{}{rest}", escape::json(new)).into();
        }
        if *kind == EntryKind::Router
            && !self.services.is_empty()
            && let Some((before, rest)) = line.split_once(SERVICE_FIELD)
            && let Some((service, rest)) = rest.split_once('"')
            && let Some(new) = self.services.get(service)
        {
            line = format!("{before}{SERVICE_FIELD}{new}\"{rest}").into();
        }
        line
    }

    /// What is called otherwise, in words.
    pub fn reasons(&self) -> Vec<String> {
        let sections = [("routers", &self.routers), ("services", &self.services)];
        let all =
            sections.into_iter().flat_map(|(section, names)| names.iter().map(move |one| (section, one)));
        all.map(|(section, (name, new))| {
            format!(
                "http.{section}.{name} of --include stays, and waybill's of that name is called {new} here"
            )
        })
        .collect()
    }
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
        let ours = |key: &EntryKey| shard.0.iter().any(|entry| entry.key == *key);
        let written = |users: &[(EntryKind, &str)]| -> Vec<String> {
            let users = users.iter().map(|(kind, name)| (*kind, (*name).into())).collect();
            let renames = Renames::new(&users, ours);
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
}
