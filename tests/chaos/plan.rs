//! What happens in a round, and when: drawn from the seed and the number of the round alone.

use std::fmt;
use std::time::Duration;

use super::agents::{AGENTS, AgentFault};
use super::fault::{Fate, REFUSALS, Rule, WatchFate};
use super::harness::Part;
use super::random::Random;
use super::replicas::{Death, REPLICAS};
use super::vandal::Damage;
use super::world::OUTPUTS;

/// Rules and fates of watches in a round.
const RULES: u64 = 7;
const WATCH_FATES: u64 = 5;
/// The same for agents, and how often one is killed.
const AGENT_RULES: u64 = 2;
const AGENT_WATCH_FATES: u64 = 2;
const AGENT_KILLS: u64 = 3;

/// Whom it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever leads at that moment.
    Leader,
    Replica(usize),
    All,
}

#[derive(Clone, Debug)]
pub enum Step {
    Rule(Who, Rule),
    Watch(Who, Option<&'static str>, WatchFate),
    Death(Who, Death),
    Agent(usize, AgentFault),
    /// Ends faults of requests and watches.
    Lift,
    /// Lets all processes run again.
    Revive,
    Kill(Part),
    Restart(Part),
    Freeze(Part),
    Thaw(Part),
    /// One after the other.
    Damage(&'static str, [Damage; 2]),
}

/// Steps and when they are done, in milliseconds from the beginning of the round.
#[derive(Clone, Debug)]
pub struct Plan {
    pub steps: Vec<(u64, Step)>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in &self.steps {
            match step {
                Step::Rule(who, rule) => writeln!(f, "  {at:>5} ms  {who:?}: {rule}")?,
                step => writeln!(f, "  {at:>5} ms  {step:?}")?,
            }
        }
        Ok(())
    }
}

/// Requests that a rule may be about.
const ABOUT: [(&[&str], &[&str]); 11] = [
    (&["create", "update", "patch", "delete"], &[]),
    (&["create", "update"], &["configmaps"]),
    (&["update"], &["configmaps"]),
    (&["create", "delete"], &["configmaps", "secrets"]),
    (&["update"], &["leases"]),
    (&["patch"], &["ingresses"]),
    (&["create", "patch"], &["events"]),
    (&["get"], &["secrets", "configmaps"]),
    (&["watch"], &[]),
    (&["list", "watch"], &["ingresses", "services", "endpointslices", "secrets"]),
    (&[], &[]),
];

/// The same for those of agents.
const ABOUT_AGENTS: [(&[&str], &[&str]); 5] = [
    (&["get"], &["configmaps", "secrets"]),
    (&["list", "watch"], &["configmaps"]),
    (&["patch", "list"], &["leases"]),
    (&["get", "list"], &[]),
    (&[], &[]),
];

/// Watches that something may happen to; `None` is all at once.
const WATCHES: [Option<&str>; 9] = [
    None,
    Some("ingresses"),
    Some("services"),
    Some("endpointslices"),
    Some("secrets"),
    Some("ingressclasses"),
    Some("configmaps"),
    Some("leases"),
    Some("ingressclassparameters"),
];

/// So late that another replica leads when a request arrives: percent of the window, which is longer than a lease.
const LATE: usize = 55;
/// Where that is in [`fates`].
const LATEST: usize = 6;

/// What may become of requests in a window that is so many milliseconds long.
fn fates(window: usize) -> Vec<Fate> {
    let late = |percent: usize| Fate::Late(Duration::from_millis((window * percent / 100) as u64));
    let mut fates = vec![
        Fate::Stalled,
        Fate::Unanswered,
        Fate::LostBefore,
        Fate::LostAfter,
        late(5),
        late(20),
        late(LATE),
        Fate::HalfAnswered,
    ];
    debug_assert_eq!(fates[LATEST], late(LATE));
    fates.extend(REFUSALS.map(Fate::Refused));
    fates
}

/// Number `nth` of an endless sequence in which all come once, in a random order, before one comes again.
fn cycle<T: Clone>(all: &[T], seed: u64, nth: u64) -> T {
    let length = all.len() as u64;
    let order = Random::part(seed, nth / length).some(all, all.len());
    order[(nth % length) as usize].clone()
}

/// Which watches are stalled by themselves, for the `nth` time.
pub fn stalled(seed: u64, nth: u64) -> Option<&'static str> {
    cycle(&WATCHES, seed ^ 8, nth)
}

#[derive(Clone, Copy)]
enum Outage {
    Killed(Part),
    Frozen(Part),
}

const OUTAGES: [Option<Outage>; 6] = [
    Some(Outage::Killed(Part::ApiServer)),
    Some(Outage::Killed(Part::Etcd)),
    Some(Outage::Frozen(Part::ApiServer)),
    Some(Outage::Frozen(Part::Etcd)),
    None,
    None,
];

impl Plan {
    /// The plan of a round whose faults go on for so long.
    pub fn new(seed: u64, round: u64, window: Duration) -> Self {
        let mut random = Random::part(seed, round);
        let mut steps = Vec::new();
        let window = window.as_millis() as usize;
        let at = |random: &mut Random, from: usize, to: usize| {
            random.between(window * from / 100, window * to / 100) as u64
        };

        for nth in 0..RULES {
            let fate = cycle(&fates(window), seed ^ 1, round * RULES + nth);
            let (verbs, resources) = cycle(&ABOUT, seed ^ 2, round * RULES + nth);
            let percent = *random.pick(&[30, 60, 100]);
            let who = who(&mut random);
            steps.push((at(&mut random, 0, 60), Step::Rule(who, Rule { verbs, resources, percent, fate })));
        }
        for nth in 0..WATCH_FATES {
            let fate = cycle(&WatchFate::ALL, seed ^ 3, round * WATCH_FATES + nth);
            let resource = cycle(&WATCHES, seed ^ 4, round * WATCH_FATES + nth);
            let who = who(&mut random);
            steps.push((at(&mut random, 0, 80), Step::Watch(who, resource, fate)));
        }
        if random.chance(50) {
            steps.push((at(&mut random, 30, 60), Step::Lift));
        }
        if random.chance(40) {
            // What is on its way when its sender dies arrives under the next leader.
            let about = *random.pick(&ABOUT[1..4]);
            let rule = Rule { verbs: about.0, resources: about.1, percent: 100, fate: fates(window)[LATEST] };
            let begins = at(&mut random, 10, 30);
            let death = *random.pick(&[Death::Kill, Death::Stop]);
            steps.push((begins, Step::Rule(Who::Leader, rule)));
            steps.push((begins + at(&mut random, 5, 10), Step::Death(Who::Leader, death)));
        }

        let death = cycle(&[Death::Kill, Death::Stop, Death::Terminate], seed ^ 5, round);
        let victim = if random.chance(75) { Who::Leader } else { who(&mut random) };
        let dies = at(&mut random, 5, 35);
        let longest = if death == Death::Stop { 60 } else { 30 };
        steps.push((dies, Step::Death(victim, death)));
        steps.push((dies + at(&mut random, longest - 15, longest), Step::Revive));
        if random.chance(30) {
            let again = *random.pick(&[Death::Kill, Death::Terminate]);
            steps.push((at(&mut random, 70, 90), Step::Death(who(&mut random), again)));
        }

        if let Some(outage) = cycle(&OUTAGES, seed ^ 6, round) {
            let begins = at(&mut random, 30, 60);
            let ends = begins + at(&mut random, 10, 35);
            let (begin, end) = match outage {
                Outage::Killed(part) => (Step::Kill(part), Step::Restart(part)),
                Outage::Frozen(part) => (Step::Freeze(part), Step::Thaw(part)),
            };
            steps.extend([(begins, begin), (ends, end)]);
        }

        let damage = [0, 1].map(|nth| cycle(&Damage::AT_ANY_TIME, seed ^ 7, round * 2 + nth));
        let output = if random.chance(70) { OUTPUTS[0] } else { OUTPUTS[1] };
        steps.push((at(&mut random, 0, 50), Step::Damage(output, damage)));
        steps.extend(of_agents(seed, round, window));
        steps.sort_by_key(|(at, _)| *at);
        Self { steps }
    }
}

fn of_agents(seed: u64, round: u64, window: usize) -> Vec<(u64, Step)> {
    let mut random = Random::part(seed ^ 9, round);
    let at = |random: &mut Random, from: usize, to: usize| {
        random.between(window * from / 100, window * to / 100) as u64
    };
    let mut steps = Vec::new();
    for nth in 0..AGENT_RULES {
        let fate = cycle(&fates(window), seed ^ 10, round * AGENT_RULES + nth);
        let (verbs, resources) = cycle(&ABOUT_AGENTS, seed ^ 11, round * AGENT_RULES + nth);
        let rule = Rule { verbs, resources, percent: *random.pick(&[30, 60, 100]), fate };
        let agent = random.below(AGENTS);
        steps.push((at(&mut random, 0, 60), Step::Agent(agent, AgentFault::Rule(rule))));
    }
    for nth in 0..AGENT_WATCH_FATES {
        let fate = cycle(&WatchFate::ALL, seed ^ 12, round * AGENT_WATCH_FATES + nth);
        let agent = random.below(AGENTS);
        steps.push((at(&mut random, 0, 80), Step::Agent(agent, AgentFault::Watch(fate))));
    }
    for _ in 0..AGENT_KILLS {
        let agent = random.below(AGENTS);
        let dies = at(&mut random, 5, 90);
        steps.push((dies, Step::Agent(agent, AgentFault::Kill)));
        steps.push((dies + at(&mut random, 0, 20), Step::Agent(agent, AgentFault::Restart)));
    }
    // In every other round; the restart or the round's end lets it go on.
    if round.is_multiple_of(2) {
        let agent = random.below(AGENTS);
        steps.push((at(&mut random, 0, 4), Step::Agent(agent, AgentFault::Stop)));
    }
    steps
}

fn who(random: &mut Random) -> Who {
    match random.below(4) {
        0 => Who::All,
        1 => Who::Replica(random.below(REPLICAS)),
        _ => Who::Leader,
    }
}

#[test]
fn a_plan_is_a_function_of_seed_and_round_and_holds_everything_in_time() {
    let text = |seed, round| Plan::new(seed, round, Duration::from_secs(8)).to_string();
    assert_eq!(text(7, 3), text(7, 3));
    assert_ne!(text(7, 3), text(7, 4));
    assert_ne!(text(7, 3), text(8, 3));
    let plans: String = (0..30).map(|round| text(9, round)).collect();
    for fate in fates(8_000) {
        assert!(plans.contains(&format!("{fate:?}")), "{fate:?} is never planned");
    }
    for step in [
        "Expired",
        "BrokenOff",
        "Kill(Etcd)",
        "Freeze(ApiServer)",
        "Stop",
        "Terminate",
        "LostKeys",
        "Agent(0, Kill)",
        "Agent(1, Kill)",
        "Agent(1, Watch",
        "Agent(0, Rule",
    ] {
        assert!(plans.contains(step), "{step} is never planned");
    }
}
