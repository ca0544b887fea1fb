//! Where private keys may be, and where none may ever be seen: all of them here are made of one canary.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;
use waybill::published::read;

use super::api::Admin;
use super::checks;
use super::replicas::Pace;
use super::world::{CANARY, OUTPUTS, base64};

/// The canary in the forms that it could be seen in.
pub struct Canary {
    forms: Vec<String>,
}

impl Canary {
    pub fn new() -> Self {
        // Of the text within, so that neither escapes nor what stands around it matter.
        let core = &CANARY[2..CANARY.len() - 8];
        let body = base64(CANARY);
        let mut forms = vec![String::from_utf8(core.to_vec()).unwrap(), body[..body.len() - 4].to_owned()];
        // As base64 within something else: it may begin at any of three places. The text of the key is base64 itself.
        for bytes in [core, &body.as_bytes()[..48]] {
            for shift in 0..3 {
                let shifted = base64(&[&b"xx"[..shift], bytes].concat());
                forms.push(shifted[4..shifted.len() - 4].to_owned());
            }
        }
        let numbers = format!("{:?}", &core[..24]);
        forms.push(numbers.trim_matches(['[', ']']).to_owned());
        forms.push(core[..24].iter().map(|byte| format!("{byte:02x}")).collect());
        Self { forms }
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }
}

/// Looks for it, and how far logs were looked at.
pub struct Secrecy {
    canary: Canary,
    logs: BTreeMap<PathBuf, u64>,
}

impl Secrecy {
    pub fn new() -> Self {
        Self { canary: Canary::new(), logs: BTreeMap::new() }
    }

    /// Where it is and must not be. `texts` are what others have at hand, with a name each.
    pub async fn look(
        &mut self,
        admin: &Admin,
        folder: &Path,
        texts: &[(String, String)],
        pace: Pace,
    ) -> Vec<String> {
        let mut found: Vec<String> =
            texts.iter().filter(|(_, text)| self.canary.is_in(text)).map(|(what, _)| what.clone()).collect();
        for kind in
            ["ConfigMap", "Event", "Ingress", "IngressClass", "IngressClassParameters", "Service", "Lease"]
        {
            for object in admin.list(kind).await.unwrap() {
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                if self.canary.is_in(&object.to_string()) || self.canary.is_in(&unpacked(kind, &object)) {
                    found.push(format!("{kind} {name}"));
                }
            }
        }
        found.extend(self.logs(folder));
        found.extend(self.rendered(admin, folder, pace).await);
        // Where it has to be, so that it would have been found elsewhere too.
        let secrets = admin.list("Secret").await.unwrap();
        for output in OUTPUTS {
            let prefix = format!("{}.k-", output.split_once('/').unwrap().1);
            let of_output = |secret: &&Value| {
                secret["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(&prefix))
            };
            let keys: Vec<_> = secrets.iter().filter(of_output).collect();
            let shown = |secret: &&Value| {
                let secret: Secret = serde_json::from_value((*secret).clone()).unwrap();
                let document = read::key_document(&secret).unwrap();
                self.canary.is_in(&document) && self.canary.is_in(&base64(document.as_bytes()))
            };
            assert!(
                !keys.is_empty() && keys.iter().all(shown),
                "the keys of {output} are not found as they should"
            );
        }
        found
    }

    /// The logs of all processes that ever ran, from where the last look ended.
    fn logs(&mut self, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("replica-") || name.starts_with("agent-");
            if !ours || !name.ends_with(".log") {
                continue;
            }
            let from = self.logs.entry(entry.path()).or_default();
            let mut file = std::fs::File::open(entry.path()).unwrap();
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(*from)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            // A line that is being written is looked at whole the next time.
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            *from += end as u64;
            let text = String::from_utf8_lossy(&bytes);
            if self.canary.is_in(&text) {
                found.push(format!("the log {name}"));
            }
            if let Some(line) = text.lines().find(|line| line.contains("panicked at")) {
                found.push(format!("no key, but a panic in the log {name}: {line}"));
            }
        }
        found
    }

    async fn rendered(&self, admin: &Admin, folder: &Path, pace: Pace) -> Vec<String> {
        let (path, _) = checks::dump(admin, folder).await.unwrap();
        let mut found = Vec::new();
        for format in ["json", "yaml", "manifests"] {
            let answer = checks::rendered(&path, format, OUTPUTS[0], pace);
            for (stream, bytes) in [("standard output", answer.stdout), ("standard error", answer.stderr)] {
                let text = String::from_utf8_lossy(&bytes);
                assert!(stream != "standard output" || text.len() > 1_000, "{format}: {text}");
                if self.canary.is_in(&text) {
                    found.push(format!("{stream} of `waybill render -o {format}`"));
                }
            }
        }
        found
    }
}

/// The text within a routing shard.
fn unpacked(kind: &str, object: &Value) -> String {
    if kind != "ConfigMap" || object["binaryData"].is_null() {
        return String::new();
    }
    let shard: ConfigMap = serde_json::from_value(object.clone()).unwrap();
    read::routing_document(&shard).unwrap_or_default()
}

#[test]
fn the_canary_is_found_in_every_form() {
    let canary = Canary::new();
    let text = String::from_utf8_lossy(CANARY).into_owned();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64(CANARY));
    for seen in [
        text.clone(),
        serde_json::json!({"key": text}).to_string(),
        pem.clone(),
        base64(pem.as_bytes()),
        base64(format!("x{pem}").as_bytes()),
        base64(format!("xx{pem}").as_bytes()),
        base64(&[b"x", CANARY].concat()),
        format!("{:?}", CANARY),
        CANARY.iter().map(|byte| format!("{byte:02x}")).collect(),
    ] {
        assert!(canary.is_in(&seen), "{seen}");
    }
    for other in [base64(b"something else entirely, of some length"), "canary of waybill".to_owned()] {
        assert!(!canary.is_in(&other), "{other}");
    }
}
