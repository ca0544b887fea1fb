//! Decides who may read metrics: users who may get `/metrics` according to the API server, as in projects made with
//! kubebuilder.
//!
//! The API server is asked by TokenReview and SubjectAccessReview. Its answers are cached, and unknown clients can
//! cause only a limited number of requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::metrics::{Metrics, ReviewResult};
use crate::pace::{Rate, Reminder};

/// How long a permission is cached.
const ALLOWED_FOR: Duration = Duration::from_secs(60);

/// How long a refusal is cached.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// The delay before the next question while an answer is pending, and after one failed.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How long a permission stays valid while the API server does not answer, because metrics are needed most then.
const WITHOUT_ANSWER: Duration = Duration::from_secs(600);

/// The timeout of both answers together.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// The maximum number of cached tokens, by their sums.
const REMEMBERED: usize = 256;

/// The maximum size of a token. OpenID Connect tokens with many groups have a few KiB.
const LONGEST_TOKEN: usize = 16 << 10;

/// The maximum number of unknown tokens from one address: a second, and at once.
const OF_A_PEER: (u32, u32) = (5, 10);

/// The same from all addresses.
const OF_ALL: (u32, u32) = (25, 50);

/// How often the log says that the API server can't be asked.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NoToken,
    Unauthenticated,
    Forbidden,
    /// Too many unknown tokens.
    TooMany,
    /// The API server does not answer, or may not be asked.
    NoAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReaderVerdict {
    Allowed,
    Unauthenticated,
    Forbidden,
}

/// Asks the API server and caches the answers.
pub struct Readers {
    client: Client,
    metrics: Metrics,
    memory: Mutex<ReaderMemory>,
}

impl Readers {
    /// Starts with an empty cache.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, memory: Mutex::new(ReaderMemory::new()) }
    }

    /// Whether the sender of these headers may read metrics.
    pub async fn check(self: &Arc<Self>, headers: &HeaderMap, peer: IpAddr) -> Result<(), Refused> {
        let token = bearer(headers).ok_or(Refused::NoToken)?;
        let sum: [u8; 32] = Sha256::digest(token).into();
        let known = self.memory.lock().look(&sum, peer, Instant::now());
        let verdict = match known {
            ReaderKnown::Verdict(verdict) => verdict,
            ReaderKnown::TooMany => {
                self.metrics.reviews.inc(ReviewResult::Throttled);
                return Err(Refused::TooMany);
            }
            ReaderKnown::Ask { fallback } => {
                // Continues if the client disconnects. Otherwise a client without the right any more could keep the old
                // verdict this way.
                let (readers, token) = (Arc::clone(self), token.to_owned());
                let asked = tokio::spawn(async move { readers.settle(sum, &token).await }).await;
                asked.ok().flatten().or(fallback).ok_or(Refused::NoAnswer)?
            }
        };
        match verdict {
            ReaderVerdict::Allowed => Ok(()),
            ReaderVerdict::Unauthenticated => Err(Refused::Unauthenticated),
            ReaderVerdict::Forbidden => Err(Refused::Forbidden),
        }
    }

    /// Asks, and caches the answer; `None` if there is none.
    async fn settle(&self, sum: [u8; 32], token: &str) -> Option<ReaderVerdict> {
        match self.ask(token).await {
            Ok(verdict) => {
                self.memory.lock().note(sum, verdict, Instant::now());
                self.metrics.reviews.inc(match verdict {
                    ReaderVerdict::Allowed => ReviewResult::Allowed,
                    ReaderVerdict::Unauthenticated => ReviewResult::Unauthenticated,
                    ReaderVerdict::Forbidden => ReviewResult::Forbidden,
                });
                Some(verdict)
            }
            Err(error) => {
                self.metrics.reviews.inc(ReviewResult::Failed);
                self.tell(&error);
                None
            }
        }
    }

    async fn ask(&self, token: &str) -> Result<ReaderVerdict, ReviewError> {
        tokio::time::timeout(ANSWER_WITHIN, self.review(token)).await.map_err(|_| ReviewError::Late)?
    }

    async fn review(&self, token: &str) -> Result<ReaderVerdict, ReviewError> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(ReviewError::Token)?.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(ReaderVerdict::Unauthenticated);
        };
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some("/metrics".to_owned()),
                verb: Some("get".to_owned()),
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let allowed = answer.map_err(ReviewError::Access)?.status.is_some_and(|status| status.allowed);
        Ok(if allowed { ReaderVerdict::Allowed } else { ReaderVerdict::Forbidden })
    }

    fn tell(&self, error: &ReviewError) {
        if self.memory.lock().reminder.is_due(Instant::now()) {
            tracing::warn!(%error, "operator.metricsSecure: the API server can't be asked who may read metrics");
        }
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum ReviewError {
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    Late,
    #[error("TokenReview: {0}; apply manifests/components/metrics-secure if a right is missing")]
    Token(#[source] kube::Error),
    #[error("SubjectAccessReview: {0}; apply manifests/components/metrics-secure if a right is missing")]
    Access(#[source] kube::Error),
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let good = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST_TOKEN;
    good.then_some(token)
}

/// The cached state of a token.
#[derive(Debug, PartialEq, Eq)]
enum ReaderKnown {
    Verdict(ReaderVerdict),
    /// To ask; `fallback` is the verdict if there is no answer.
    Ask {
        fallback: Option<ReaderVerdict>,
    },
    TooMany,
}

struct RememberedVerdict {
    verdict: ReaderVerdict,
    /// When the API server gave this answer.
    at: Instant,
    ask_at: Instant,
}

/// Verdicts by the sums of tokens, and the allowances for unknown ones. Every call takes the time as a parameter.
struct ReaderMemory {
    verdicts: HashMap<[u8; 32], RememberedVerdict>,
    /// By address. A full one is the same as none.
    budgets: HashMap<IpAddr, Rate>,
    budget: Rate,
    reminder: Reminder,
}

impl ReaderMemory {
    fn new() -> Self {
        Self {
            verdicts: HashMap::new(),
            budgets: HashMap::new(),
            budget: Rate::new(OF_ALL.0, OF_ALL.1),
            reminder: Reminder::new(TELL_AGAIN),
        }
    }

    fn look(&mut self, sum: &[u8; 32], peer: IpAddr, now: Instant) -> ReaderKnown {
        if let Some(known) = self.verdicts.get_mut(sum) {
            if now < known.ask_at {
                return ReaderKnown::Verdict(known.verdict);
            }
            // There are few readers with a permission, and unknown clients must not displace them.
            if known.verdict == ReaderVerdict::Allowed
                && now.saturating_duration_since(known.at) < WITHOUT_ANSWER
            {
                known.ask_at = now + ASK_AGAIN;
                return ReaderKnown::Ask { fallback: Some(ReaderVerdict::Allowed) };
            }
        }
        if self.may_ask(peer, now) { ReaderKnown::Ask { fallback: None } } else { ReaderKnown::TooMany }
    }

    fn may_ask(&mut self, peer: IpAddr, now: Instant) -> bool {
        if self.budgets.len() >= REMEMBERED && !self.budgets.contains_key(&peer) {
            self.budgets.retain(|_, budget| !budget.is_full(now));
            if self.budgets.len() >= REMEMBERED {
                return false;
            }
        }
        let of_peer = self.budgets.entry(peer).or_insert_with(|| Rate::new(OF_A_PEER.0, OF_A_PEER.1));
        of_peer.take(now).is_ok() && self.budget.take(now).is_ok()
    }

    fn note(&mut self, sum: [u8; 32], verdict: ReaderVerdict, now: Instant) {
        if self.verdicts.len() >= REMEMBERED && !self.verdicts.contains_key(&sum) {
            // An old permission is worth no more than a refusal.
            let counts = |one: &RememberedVerdict| {
                one.verdict == ReaderVerdict::Allowed
                    && now.saturating_duration_since(one.at) < WITHOUT_ANSWER
            };
            let least = self.verdicts.iter().min_by_key(|(_, one)| (counts(one), one.at));
            let Some((least, kept)) = least.map(|(least, one)| (*least, counts(one))) else { return };
            if kept && verdict != ReaderVerdict::Allowed {
                return;
            }
            self.verdicts.remove(&least);
        }
        let keep = if verdict == ReaderVerdict::Allowed { ALLOWED_FOR } else { REFUSED_FOR };
        self.verdicts.insert(sum, RememberedVerdict { verdict, at: now, ask_at: now + keep });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn sum(of: usize) -> [u8; 32] {
        Sha256::digest(of.to_string()).into()
    }

    fn refuse_thousands(memory: &mut ReaderMemory, from: Instant) {
        for of in 1..10_000 {
            memory.note(sum(of), ReaderVerdict::Unauthenticated, from + Duration::from_millis(of as u64));
        }
    }

    #[test]
    fn a_verdict_counts_for_a_while_and_longer_while_nobody_answers() {
        let start = Instant::now();
        let mut memory = ReaderMemory::new();
        assert_eq!(memory.look(&sum(1), PEER, start), ReaderKnown::Ask { fallback: None });
        memory.note(sum(1), ReaderVerdict::Allowed, start);
        memory.note(sum(2), ReaderVerdict::Forbidden, start);
        let soon = start + REFUSED_FOR / 2;
        assert_eq!(memory.look(&sum(1), PEER, soon), ReaderKnown::Verdict(ReaderVerdict::Allowed));
        assert_eq!(memory.look(&sum(2), PEER, soon), ReaderKnown::Verdict(ReaderVerdict::Forbidden));
        assert_eq!(memory.look(&sum(2), PEER, start + REFUSED_FOR), ReaderKnown::Ask { fallback: None });

        let later = start + ALLOWED_FOR;
        assert_eq!(
            memory.look(&sum(1), PEER, later),
            ReaderKnown::Ask { fallback: Some(ReaderVerdict::Allowed) }
        );
        assert_eq!(
            memory.look(&sum(1), PEER, later),
            ReaderKnown::Verdict(ReaderVerdict::Allowed),
            "one question at a time"
        );
        let again = later + ASK_AGAIN;
        assert_eq!(
            memory.look(&sum(1), PEER, again),
            ReaderKnown::Ask { fallback: Some(ReaderVerdict::Allowed) }
        );
        memory.note(sum(1), ReaderVerdict::Unauthenticated, again);
        assert_eq!(memory.look(&sum(1), PEER, again), ReaderKnown::Verdict(ReaderVerdict::Unauthenticated));

        memory.note(sum(3), ReaderVerdict::Allowed, start);
        assert_eq!(memory.look(&sum(3), PEER, start + WITHOUT_ANSWER), ReaderKnown::Ask { fallback: None });
    }

    #[test]
    fn strangers_can_neither_ask_without_end_nor_push_a_reader_out() {
        let start = Instant::now();
        let mut memory = ReaderMemory::new();
        memory.note(sum(0), ReaderVerdict::Allowed, start);
        let asked = (1..10_000)
            .filter(|of| memory.look(&sum(*of), PEER, start) == ReaderKnown::Ask { fallback: None });
        assert_eq!(asked.count(), OF_A_PEER.1 as usize);
        refuse_thousands(&mut memory, start);
        assert_eq!(memory.verdicts.len(), REMEMBERED);
        let later = start + Duration::from_secs(1);
        assert_eq!(memory.look(&sum(0), PEER, later), ReaderKnown::Verdict(ReaderVerdict::Allowed));
        let asked = (20_000..30_000).filter(|of| memory.look(&sum(*of), PEER, later) != ReaderKnown::TooMany);
        assert_eq!(asked.count(), OF_A_PEER.0 as usize);
        let expired = start + ALLOWED_FOR;
        for of in 30_000..31_000 {
            memory.look(&sum(of), PEER, expired);
        }
        assert_eq!(
            memory.look(&sum(0), PEER, expired),
            ReaderKnown::Ask { fallback: Some(ReaderVerdict::Allowed) }
        );
    }

    #[test]
    fn strangers_of_one_address_take_nothing_from_another() {
        let start = Instant::now();
        let mut memory = ReaderMemory::new();
        let other = IpAddr::from([10, 0, 0, 2]);
        (1..10_000).for_each(|of| {
            assert_ne!(memory.look(&sum(of), PEER, start), ReaderKnown::Verdict(ReaderVerdict::Allowed))
        });
        assert_eq!(memory.look(&sum(0), other, start), ReaderKnown::Ask { fallback: None });
        // All addresses together are bounded too, and so is what is kept of them.
        let later = start + Duration::from_secs(60);
        let addresses = (0..60_000u32).map(|of| IpAddr::from((0x0a01_0000 + of).to_be_bytes()));
        let asked = addresses.filter(|peer| memory.look(&sum(0), *peer, later) != ReaderKnown::TooMany);
        assert_eq!(asked.count(), OF_ALL.1 as usize);
        assert!(memory.budgets.len() <= REMEMBERED);
    }

    #[test]
    fn readers_of_long_ago_make_room_for_refusals() {
        let start = Instant::now();
        let mut memory = ReaderMemory::new();
        for of in 0..REMEMBERED {
            memory.note(sum(100_000 + of), ReaderVerdict::Allowed, start);
        }
        let later = start + WITHOUT_ANSWER;
        memory.note(sum(1), ReaderVerdict::Forbidden, later);
        assert_eq!(memory.look(&sum(1), PEER, later), ReaderKnown::Verdict(ReaderVerdict::Forbidden));
    }

    #[test]
    fn only_a_bearer_token_of_some_length_is_looked_at() {
        let token = |value: &str| {
            let headers = [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc").as_deref(), Some("abc"));
        for bad in ["Bearer ", "Bearer", "Basic abc", &format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1))] {
            assert_eq!(token(bad), None);
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
