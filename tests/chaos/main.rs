//! What is published stays right under a bad network, a bad day of the API server, and processes that die at the worst
//! moment.
//!
//! Three replicas of the real binary run against a real API server, each behind a proxy that stalls, loses, delays,
//! refuses and halves its requests and watches. Meanwhile objects of every kind change, replicas are killed and
//! stopped, etcd and the API server die, and somebody damages what is published. Readers follow index and shards all
//! the time, and never meet what they may not meet (`legal.rs`). After each round everything has to be as `waybill
//! render` says (`checks.rs`), and so has what agents hand to Traefik, who never had a mixed or older generation or none
//! (`agents.rs`), the API server's own log must show that no former leader changed anything
//! (`audit.rs`), and no private key may be seen anywhere (`secrecy.rs`).
//!
//! | variable | default | |
//! | --- | --- | --- |
//! | `WAYBILL_CHAOS_ROUNDS` | 3 | rounds |
//! | `WAYBILL_CHAOS_SEED` | the time | what they are made from; printed |
//! | `WAYBILL_CHAOS_FIRST` | 0 | the round to begin with, to repeat one that failed by itself |
//! | `WAYBILL_CHAOS_INGRESSES` | 0 | so many more Ingresses in the cluster |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agents;
mod api;
mod audit;
mod checks;
mod churn;
#[path = "../../benches/support/cluster.rs"]
mod cluster;
mod disk;
mod fault;
mod figures;
mod garbage;
mod guards;
#[allow(unused_imports, reason = "what other tests need")]
#[path = "../cluster/harness/mod.rs"]
mod harness;
mod large;
mod legal;
mod plan;
mod proxy;
mod proxy_tests;
#[path = "../peer/random.rs"]
mod random;
mod reader;
mod replicas;
mod round;
mod secrecy;
mod singles;
mod vandal;
mod visible;
mod world;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use harness::ControlPlane;
use round::Chaos;

fn number(name: &str, default: impl FnOnce() -> u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default(),
    }
}

/// Says how to repeat a round, when it fails.
struct Repeat {
    seed: u64,
    round: u64,
    ingresses: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, round, ingresses } = self;
            eprintln!(
                "round {round} of seed {seed} failed; to repeat it by itself:\n  WAYBILL_CHAOS_SEED={seed} \
                 WAYBILL_CHAOS_FIRST={round} WAYBILL_CHAOS_ROUNDS=1 WAYBILL_CHAOS_INGRESSES={ingresses} \
                 cargo test --test chaos rounds -- --nocapture"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_of_faults_leave_everything_right() {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = number("WAYBILL_CHAOS_SEED", seconds);
    let rounds = number("WAYBILL_CHAOS_ROUNDS", || 3);
    let first = number("WAYBILL_CHAOS_FIRST", || 0);
    let ingresses = number("WAYBILL_CHAOS_INGRESSES", || 0);
    println!("WAYBILL_CHAOS_SEED={seed} WAYBILL_CHAOS_ROUNDS={rounds} WAYBILL_CHAOS_INGRESSES={ingresses}");
    let begun = Instant::now();
    let mut repeat = Repeat { seed, round: first, ingresses };
    let plane = ControlPlane::start().await;
    let mut chaos = Chaos::start(&plane, seed, ingresses).await;
    println!("all is right for the first time after {:.1?}", begun.elapsed());
    for round in first..first + rounds {
        repeat.round = round;
        chaos.round(round, rounds).await;
        // A long run that fails later is not for nothing.
        if chaos.figures.rounds.is_multiple_of(10) && round + 1 < first + rounds {
            println!("{}after {:.0} s", chaos.figures, begun.elapsed().as_secs_f64());
        }
    }
    println!("{}in {:.0} s", chaos.figures, begun.elapsed().as_secs_f64());
    chaos.figures.check();
}
