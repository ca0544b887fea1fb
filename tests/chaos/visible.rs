//! Every fault that a replica met has to be seen in its metrics.
//!
//! A request that is refused is counted by the code that came back, one that is lost or stalled as unanswered, an
//! answer that breaks off as that, and a watch that is told of a failure by its kind. A client may give a request up
//! before its fate comes back, as at the end of a term; then it is counted as unanswered, and a write as abandoned,
//! whatever the fate was. So what was inflicted is never more than what is counted. Nobody has to notice a request that is only late.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::{Asked, Fate};
use super::harness::eventually;
use super::replicas::Fleet;

/// Writes of the Lease, answers that broke off and watches that were told of a failure may each be dropped uncounted by
/// whoever asked, in the moment in which a term ends: that many times in a process's life.
const DROPPED: u64 = 3;

/// What was inflicted on a process since it began.
#[derive(Debug, Default)]
pub struct Inflicted {
    /// By method and code.
    refused: BTreeMap<(&'static str, u16), u64>,
    /// No answer at all, by method.
    lost: BTreeMap<&'static str, u64>,
    /// An answer that began and broke off, by method.
    broken: BTreeMap<&'static str, u64>,
    /// A watch that was told that it has failed, by the value of `kind` of those that it may be.
    failed: BTreeMap<&'static [&'static str], u64>,
    /// How many of all that were asked for.
    taken: u64,
}

/// Waits until every replica shows all that it met; gives how many faults those are since the last look.
pub async fn look(fleet: &Fleet<'_>, within: Duration) -> u64 {
    let mut count = 0;
    for (name, operator) in fleet.running() {
        let Some(replica) = fleet.replicas.iter().find(|replica| replica.name == name) else { continue };
        eventually(&format!("{name} shows what befell it"), within, async || {
            let (_, metrics) = operator.get("/metrics").await?;
            let unseen = replica.proxy.inflicted().unseen(&metrics);
            if unseen.is_empty() { Ok(()) } else { Err(unseen.join("\n")) }
        })
        .await;
        count += replica.proxy.inflicted().take_count();
    }
    count
}

fn method(asked: &Asked) -> &'static str {
    match asked.verb {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        _ => "GET",
    }
}

/// What a resource is called in metrics, for what is watched as long as a process lives.
fn kinds(resource: &str, query: &str) -> Option<&'static [&'static str]> {
    Some(match resource {
        "ingresses" => &["ingresses"],
        "ingressclasses" => &["ingressclasses"],
        "services" => &["services"],
        "endpointslices" => &["endpointslices"],
        "nodes" => &["nodes"],
        "ingressclassparameters" => &["ingressclassparameters"],
        // Those of leaders come and go.
        "secrets" if !query.contains("managed-by") => &["tls_secrets", "secret_metadata"],
        _ => return None,
    })
}

impl Inflicted {
    /// A request meets its fate.
    pub fn request(&mut self, asked: &Asked, fate: Fate) {
        let method = method(asked);
        match fate {
            Fate::Stalled | Fate::Unanswered | Fate::LostBefore | Fate::LostAfter => {
                *self.lost.entry(method).or_default() += 1;
            }
            Fate::Refused(code) => *self.refused.entry((method, code)).or_default() += 1,
            // A watch breaks off with its first event.
            Fate::HalfAnswered if asked.verb != "watch" => *self.broken.entry(method).or_default() += 1,
            Fate::HalfAnswered | Fate::Late(_) => {}
        }
    }

    /// A watch breaks off.
    pub fn watch_broke_off(&mut self) {
        *self.broken.entry("GET").or_default() += 1;
    }

    /// A watch is told that it has failed.
    pub fn watch_failed(&mut self, resource: &str, query: &str) {
        if let Some(kinds) = kinds(resource, query) {
            *self.failed.entry(kinds).or_default() += 1;
        }
    }

    /// How much of it there is since this was asked last.
    pub fn take_count(&mut self) -> u64 {
        let refused = self.refused.values().sum::<u64>();
        let others = self.lost.values().chain(self.broken.values()).chain(self.failed.values());
        let all = refused + others.sum::<u64>();
        all - std::mem::replace(&mut self.taken, all)
    }

    /// What of it is not seen in `metrics`.
    pub fn unseen(&self, metrics: &str) -> Vec<String> {
        let sum = |name: &str, labels: &[String]| -> u64 {
            let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
            let wanted = series.filter(|line| labels.iter().all(|label| line.contains(label.as_str())));
            wanted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
        };
        let label = |name: &str, value: &str| format!("{name}=\"{value}\"");
        let mut unseen = Vec::new();
        let mut need = |what: String, met: u64, seen: u64| {
            if met > seen {
                unseen.push(format!("{what}: {met} were met and {seen} are seen"));
            }
        };
        let requests = |code: &str, method: &str| {
            sum("rest_client_requests_total", &[label("code", code), label("method", method)])
        };
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let lost = self.lost.get(method).copied().unwrap_or_default();
            let refused = self.refused.iter().filter(|((of, _), _)| *of == method);
            let given_up: u64 = refused
                .map(|((_, code), count)| count.saturating_sub(requests(&code.to_string(), method)))
                .sum();
            let unanswered = requests("<error>", method);
            need(format!("{method} lost, or refused and given up"), lost + given_up, unanswered);
            let broken = self.broken.get(method).copied().unwrap_or_default();
            let seen = sum("waybill_api_answers_broken_total", &[label("method", method)]);
            let others = unanswered.saturating_sub(lost + given_up);
            need(format!("answers to {method} that broke off"), broken, seen + others + DROPPED);
            // Many can't all have been dropped.
            need(
                format!("any answer to {method} that broke off"),
                broken.saturating_sub(others).min(DROPPED + 1) / (DROPPED + 1),
                seen,
            );
        }
        let written = |result: &str| sum("waybill_writes_total", &[label("result", result)]);
        let mut uncounted = 0;
        for (codes, results) in [
            (&[403][..], &["forbidden", "quota_exceeded"][..]),
            (&[409], &["conflict"]),
            (&[410], &["other"]),
            (&[413], &["too_large"]),
            (&[422], &["invalid"]),
            (&[429], &["throttled"]),
            (&[500, 503], &["server_error"]),
        ] {
            let writes = self.refused.iter().filter(|((of, code), _)| *of != "GET" && codes.contains(code));
            let met: u64 = writes.map(|(_, count)| count).sum();
            let seen: u64 = results.iter().map(|result| written(result)).sum();
            uncounted += met.saturating_sub(seen);
        }
        need(
            "writes that were refused and not counted so".to_owned(),
            uncounted,
            written("abandoned") + DROPPED,
        );
        for (kinds, met) in &self.failed {
            let seen =
                kinds.iter().map(|kind| sum("waybill_watch_errors_total", &[label("kind", kind)])).sum();
            need(format!("failed watches of {kinds:?}"), *met, seen);
        }
        unseen
    }
}

#[test]
fn what_is_not_counted_is_noticed_and_what_was_given_up_is_forgiven() {
    let asked = |verb| Asked { verb, resource: "configmaps".into(), ..Asked::default() };
    let mut met = Inflicted::default();
    for _ in 0..5 {
        met.request(&asked("update"), Fate::Refused(503));
        met.request(&asked("get"), Fate::HalfAnswered);
    }
    met.request(&asked("patch"), Fate::LostAfter);
    met.request(&asked("watch"), Fate::HalfAnswered);
    met.request(&asked("watch"), Fate::Late(std::time::Duration::from_secs(1)));
    met.watch_failed("secrets", "labelSelector=managed-by");
    met.watch_failed("secrets", "");
    assert_eq!((met.take_count(), met.take_count()), (5 + 5 + 1 + 1, 0));
    let seen = [
        ("rest_client_requests_total{code=\"503\",method=\"PUT\"}", 4),
        ("rest_client_requests_total{code=\"<error>\",method=\"PUT\"}", 1),
        ("rest_client_requests_total{code=\"<error>\",method=\"PATCH\"}", 1),
        ("waybill_api_answers_broken_total{method=\"GET\"}", 2),
        ("waybill_writes_total{kind=\"index\",result=\"server_error\"}", 2),
        ("waybill_watch_errors_total{kind=\"secret_metadata\"}", 1),
    ];
    let text = |without: Option<usize>| -> String {
        let kept = seen.iter().enumerate().filter(|(at, _)| Some(*at) != without);
        kept.map(|(_, (series, count))| format!("{series} {count}\n")).collect()
    };
    assert_eq!(met.unseen(&text(None)), Vec::<String>::new());
    for (at, (series, _)) in seen.iter().enumerate() {
        assert!(!met.unseen(&text(Some(at))).is_empty(), "{series} is not asked for");
    }
}
