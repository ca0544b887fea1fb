//! How long nobody leads, with the lease as shipped.

use std::time::{Duration, Instant};

use waybill::publish::lease::Timings;

use super::objects::{FAST, class, has_router, ingress, namespace, service, slice};
use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";
const LEADS: &str = "leader_election_master_status{name=\"waybill\"}";
const ROUNDS: usize = 6;

/// For what is not the election: a scrape, and a busy machine.
const MARGIN: Duration = Duration::from_millis(500);

/// Waits for either of two to lead; gives which, and when.
async fn led(replicas: &[Operator]) -> (usize, Instant) {
    eventually("another replica leads", Duration::from_secs(40), async || {
        for (at, replica) in replicas.iter().enumerate() {
            if replica.metric(LEADS).await == Some(1.0) {
                return Ok((at, Instant::now()));
            }
        }
        Err("none")
    })
    .await
}

fn shown(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let (least, longest) = (times[0], times[times.len() - 1]);
    println!(
        "{what}: {least:.2?} to {longest:.2?}, median {:.2?}, {} times",
        times[times.len() / 2],
        times.len()
    );
    longest
}

#[tokio::test]
#[ignore = "takes minutes: make test-long; the short form is in failover.rs"]
async fn a_takeover_with_the_lease_as_shipped() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let objects = [namespace("shop"), class(), service("shop", "web"), slice("shop", "web", "10.1.0.1")];
    plane.apply_objects(&objects).await;
    let mut number = 0;
    let mut start = async || {
        number += 1;
        let replica = plane.operator(&format!("replica-{number}"), &[FAST]).await;
        replica.ready().await;
        replica
    };
    let mut leader = start().await;
    leader.leads().await;
    let mut followers = vec![start().await, start().await];
    let (mut killed, mut published, mut released) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for signal in [Signal::KILL, Signal::TERM] {
            let name = format!("round-{round}-{}", signal.as_raw());
            plane.apply_objects(&[ingress("shop", &format!("before-{name}"), "web")]).await;
            let before = format!("before-{name}");
            plane
                .eventually_published(OUTPUT, "the leader publishes", |document| {
                    has_router(document, "shop", &before)
                })
                .await;
            let gone = Instant::now();
            leader.process.signal(signal);
            let (at, when) = led(&followers).await;
            if signal == Signal::KILL {
                killed.push(when - gone);
                plane.apply_objects(&[ingress("shop", &name, "web")]).await;
                plane
                    .eventually_published(OUTPUT, "the new leader publishes", |document| {
                        has_router(document, "shop", &name)
                    })
                    .await;
                published.push(gone.elapsed());
            } else {
                released.push(when - gone);
                let mut old = leader;
                assert!(old.process.ended(SOON).await.success());
                leader = followers.remove(at);
                followers.push(start().await);
                continue;
            }
            leader = followers.remove(at);
            followers.push(start().await);
        }
    }
    let longest = shown("leading after SIGKILL", &mut killed);
    shown("a change published after SIGKILL", &mut published);
    let longest_release = shown("leading after SIGTERM", &mut released);
    assert!(longest <= Timings::default().longest_takeover() + MARGIN, "{longest:?}");
    assert!(longest_release <= Duration::from_secs(1), "{longest_release:?}");
}
